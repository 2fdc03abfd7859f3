use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{JobSpec, StartFrom};

/// A job made concrete: its specification and where everything lies.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunSpec {
    pub job_id: String,
    /// Grows with every start of the job; reports of an older attempt are refused.
    pub attempt: u32,
    pub spec: JobSpec,
    /// The folder of the base model.
    pub model_dir: PathBuf,
    /// Weights to begin with instead of fresh ones.
    pub start_from: Option<StartFrom>,
    pub training_file: DataFile,
    pub validation_file: Option<DataFile>,
    /// The job's own folder; checkpoints go to `checkpoints/`, the result to `output/`, through a `.tmp` name each.
    pub run_dir: PathBuf,
    pub device: Device,
    /// Threads for the arithmetic.
    pub threads: usize,
    /// The folder of the checkpoint to go on from.
    pub resume_from: Option<PathBuf>,
    /// The optimizer step at which the run evaluates, leaves a checkpoint and ends as [`crate::Stop::Reached`]. Nothing of what it trains depends on it: where it is raised later, the run goes on as if it had not stopped.
    #[serde(default)]
    pub pause_at_step: Option<u64>,
}

impl RunSpec {
    /// The table of what the model that is kept makes of each validation row, among the artifacts. Columns `row`, `line`, `loss` (mean over the row's targets), `label_tokens` (its targets; 1
    /// with classes), `correct` (targets predicted rightly), and with classes `label` and `prediction`.
    pub const VALIDATION_ROWS: &str = "validation_rows.csv";

    /// Where the artifacts of a finished run lie.
    pub fn output_dir(&self) -> PathBuf {
        self.run_dir.join("output")
    }

    /// Where the checkpoint of an optimizer step lies.
    pub fn checkpoint_dir(&self, step: u64) -> PathBuf {
        let checkpoints = self.run_dir.join("checkpoints");
        checkpoints.join(Self::checkpoint_name(step))
    }

    /// The name of the folder in which the checkpoint of an optimizer step lies.
    pub fn checkpoint_name(step: u64) -> String {
        format!("step-{step:08}")
    }
}

/// An uploaded file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DataFile {
    pub id: String,
    /// The name the user gave it; its ending tells CSV from JSONL.
    pub filename: String,
    pub path: PathBuf,
    /// Hex.
    pub sha256: String,
}

/// What a worker computes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Device {
    Cpu,
    Cuda(usize),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}
