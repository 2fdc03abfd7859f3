use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    Control, ErrorCode, JobError, JobSpec, Memory, Metrics, Plan, RunEvent, RunSpec, SpecError,
    Stop,
};

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

    /// Looks whether a checkpoint is whole and belongs to this run, before the run goes on from it. It sends heartbeats as it reads.
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
    /// [`PublishRefused::StaleAttempt`] when the run is no longer the job's attempt: it must stop. [`PublishRefused::NotKept`] when only this
    /// checkpoint could not be made known: the run goes on.
    fn checkpoint(&mut self, checkpoint: CheckpointFiles) -> Result<(), PublishRefused>;
}

/// Why a run ended early.
#[derive(Debug, Clone, PartialEq, thiserror::Error, Serialize, Deserialize)]
pub enum TrainError {
    #[error(transparent)]
    Stopped(#[from] Stop),
    #[error(transparent)]
    Refused(#[from] PublishRefused),
    /// The job's `error` in the API.
    #[error(transparent)]
    Failed(#[from] JobError),
}

impl TrainError {
    pub fn failed(code: ErrorCode, message: impl Into<String>) -> Self {
        JobError::new(code, message).into()
    }

    /// A fault of the program or of the machine, which the user cannot mend.
    pub fn internal(message: impl Into<String>) -> Self {
        JobError::internal(message).into()
    }
}

impl From<SpecError> for TrainError {
    fn from(error: SpecError) -> Self {
        Self::Failed(error.into())
    }
}

/// Why a checkpoint did not become known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum PublishRefused {
    /// The run is no longer its job's current attempt.
    #[error("the report was refused: {0}")]
    StaleAttempt(String),
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
