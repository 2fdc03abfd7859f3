use serde::{Deserialize, Serialize};
use taper_core::{CheckpointFiles, Outcome, PublishRefused, RequestedAction, RunEvent, TrainError};

/// What the child is told, after the run on its first line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ToChild {
    /// What is asked of the run now.
    Request(Option<RequestedAction>),
    /// What has become of the checkpoint that it has reported.
    Checkpoint(Result<(), PublishRefused>),
}

/// What the child tells.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromChild {
    Event(RunEvent),
    /// The child waits for an answer.
    Checkpoint(CheckpointFiles),
    /// The run has moved.
    Heartbeat,
    /// The last line.
    Ended(Result<Outcome, TrainError>),
}
