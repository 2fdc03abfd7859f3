use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use crate::{JobSpec, Memory, Metrics, Plan, RunEvent, SpecError, StartFrom};

/// All that the scheduler knows of training. The engine implements it; tests of the scheduler and the server script it.
pub trait Trainer: Send + Sync {
    /// Looks at the model folder and the rows of the files, quickly, before a job is accepted, and fills in the defaults that depend on them.
    ///
    /// # Errors
    /// What is wrong with the model, the targets or the rows (by line number), with `param`.
    fn inspect(&self, run: &RunSpec) -> Result<JobSpec, SpecError>;

    /// Memory that the run takes at its peak at most, from its longest rows: quickly, without reading weights or tokenizing all rows.
    ///
    /// # Errors
    /// What is wrong with the model or the data.
    fn memory_bound(&self, run: &RunSpec) -> Result<Memory, SpecError>;

    /// Tokenizes the data and counts what the run will do, without training.
    ///
    /// # Errors
    /// What only the tokenizer can find wrong with the data; [`Stop`] when told to stop meanwhile.
    fn check(&self, run: &RunSpec, control: &Control) -> Result<Plan, TrainError>;

    /// Looks whether a checkpoint is whole and belongs to this run, before the run goes on from it. It beats as it reads.
    ///
    /// # Errors
    /// What is wrong with it.
    fn verify(
        &self,
        run: &RunSpec,
        checkpoint: &Path,
        control: &Control,
    ) -> Result<(), CheckpointRefused>;

    /// Trains to the end, or until `control` says otherwise, and leaves the artifacts in [`RunSpec::output_dir`].
    ///
    /// # Errors
    /// Why the run ended early.
    fn train(
        &self,
        run: &RunSpec,
        sink: &mut dyn RunSink,
        control: &Control,
    ) -> Result<Outcome, TrainError>;
}

/// Where a run reports to.
pub trait RunSink {
    /// Takes an event; never blocks on slow readers.
    fn event(&mut self, event: RunEvent);

    /// Makes a checkpoint known that lies whole on the disk.
    ///
    /// # Errors
    /// [`PublishRefused::Stale`] when the run is no longer the job's attempt: it must stop. [`PublishRefused::NotKept`] when only this
    /// checkpoint could not be made known: the run goes on.
    fn checkpoint(&mut self, checkpoint: CheckpointFiles) -> Result<(), PublishRefused>;
}

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
    /// The optimizer step at which the run evaluates, leaves a checkpoint and ends as [`Stop::Reached`]. Nothing of what it trains depends on it: where it is raised later, the run goes on as if it had not stopped.
    #[serde(default)]
    pub pause_at_step: Option<u64>,
}

impl RunSpec {
    /// The table of what the model that is kept makes of each validation row, among the artifacts. Columns `row`, `line`, `loss` (mean over the row's answers), `label_tokens` (its answers; 1
    /// with classes), `correct` (answers foretold rightly), and with classes `label` and `prediction`.
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

/// What somebody wants of a running job, the strongest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Command {
    Continue = 0,
    /// Keep a checkpoint and leave the device.
    Pause = 1,
    /// Stop at once.
    Cancel = 2,
}

/// The line to a running job: whoever holds a clone may give a command, the run looks at it before every micro-step. That it looks
/// is its heartbeat.
#[derive(Debug, Clone, Default)]
pub struct Control(Arc<Line>);

#[derive(Debug, Default)]
struct Line {
    command: AtomicU8,
    beats: AtomicU64,
}

impl Control {
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives a command; a stronger one that was given before stands.
    pub fn give(&self, command: Command) {
        self.0.command.fetch_max(command as u8, Ordering::Release);
    }

    /// Takes a command back; another that has been given since stands.
    pub fn take_back(&self, command: Command) {
        let (given, none) = (command as u8, Command::Continue as u8);
        let line = &self.0.command;
        // Where it fails, there is nothing to take back.
        let _ = line.compare_exchange(given, none, Ordering::AcqRel, Ordering::Acquire);
    }

    pub fn command(&self) -> Command {
        match self.0.command.load(Ordering::Acquire) {
            0 => Command::Continue,
            1 => Command::Pause,
            _ => Command::Cancel,
        }
    }

    /// Shows that the run is alive.
    pub fn beat(&self) {
        self.0.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// How often the run has shown that it is alive.
    pub fn beats(&self) -> u64 {
        self.0.beats.load(Ordering::Relaxed)
    }

    /// Lets the run go on unless it is cancelled: for short work that a pause waits for.
    ///
    /// # Errors
    /// The wish to stop at once.
    pub fn check_cancelled(&self) -> Result<(), Stop> {
        self.beat();
        match self.command() {
            Command::Continue | Command::Pause => Ok(()),
            Command::Cancel => Err(Stop::Cancelled),
        }
    }

    /// Lets the run go on, or tells it why not.
    ///
    /// # Errors
    /// The wish to stop.
    pub fn check(&self) -> Result<(), Stop> {
        self.beat();
        self.peek()
    }

    /// As [`Control::check`], but no sign of life: for who waits for others.
    ///
    /// # Errors
    /// The wish to stop.
    pub fn peek(&self) -> Result<(), Stop> {
        match self.command() {
            Command::Continue => Ok(()),
            Command::Pause => Err(Stop::Paused),
            Command::Cancel => Err(Stop::Cancelled),
        }
    }
}

/// A run that ended because somebody wished so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Stop {
    #[error("paused")]
    Paused,
    /// It is at [`RunSpec::pause_at_step`], or past it.
    #[error("paused at its step")]
    Reached,
    #[error("cancelled")]
    Cancelled,
}

/// Why a run ended early.
#[derive(Debug, Clone, PartialEq, thiserror::Error, Serialize, Deserialize)]
pub enum TrainError {
    #[error(transparent)]
    Stopped(#[from] Stop),
    #[error(transparent)]
    Refused(#[from] PublishRefused),
    /// The job's `error` in the API.
    #[error("{message}")]
    Failed {
        /// For programs: `invalid_training_file`, `non_finite`, `internal`, …
        code: String,
        /// For people: which thing, what was wrong, what to do.
        message: String,
        param: Option<String>,
        /// The optimizer step at which it happened.
        step: Option<u64>,
    },
}

impl From<SpecError> for TrainError {
    fn from(error: SpecError) -> Self {
        let first = error.first();
        Self::Failed {
            code: first.code.clone(),
            message: error.to_string(),
            param: Some(first.param.clone()),
            step: None,
        }
    }
}

/// Why a checkpoint did not become known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum PublishRefused {
    /// The run is no longer its job's current attempt.
    #[error("the report was refused: {0}")]
    Stale(String),
    /// The record could not be written.
    #[error("the checkpoint could not be made known: {0}")]
    NotKept(String),
}

/// Why a run cannot go on from a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointRefused {
    /// A part is missing or not as it was written: nothing can ever go on from it.
    #[error("{0}")]
    Damaged(String),
    /// It may well be whole, but does not go with what the run stands on now; that can be put back.
    #[error("{0}")]
    Unusable(String),
}

/// A file in a checkpoint's folder that tells the sums of the others: a JSON object of file names and sha256 in hex.
pub const CHECKPOINT_MANIFEST: &str = "manifest.json";

/// A checkpoint that lies whole on the disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointFiles {
    pub step: u64,
    pub dir: PathBuf,
    pub metrics: Metrics,
    /// Steps of older checkpoints that are no longer needed; their rows go first, then their folders.
    pub superseded: Vec<u64>,
}

/// A run that has ended well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Last value of every figure.
    pub metrics: Metrics,
    pub trained_tokens: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_to_cancel_stands() {
        let control = Control::new();
        control.give(Command::Pause);
        assert_eq!(control.check(), Err(Stop::Paused));
        control.give(Command::Cancel);
        control.give(Command::Pause);
        assert_eq!(control.check(), Err(Stop::Cancelled));
    }
}
