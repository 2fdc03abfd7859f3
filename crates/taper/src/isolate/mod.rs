//! `taper serve --isolate`: each run in a child process of this binary, so that one that is killed for its memory, or that aborts,
//! takes only itself along. The child gets the run on its first line of stdin and then orders, and reports on stdout, in lines of
//! JSON; its log goes where the server's goes.

mod child;
mod parent;

use serde::{Deserialize, Serialize};
use taper_core::{CheckpointFiles, Outcome, PublishRefused, RunEvent, TrainError};

pub(crate) use self::{child::RunIsolated, parent::Isolated};

/// The name of the child's subcommand.
const SUBCOMMAND: &str = "run-isolated";

/// What the child is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    Pause,
    Cancel,
    /// What has become of the checkpoint that it has reported.
    Checkpoint(Result<(), PublishRefused>),
}

/// What the child tells.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Report {
    Event(RunEvent),
    /// The child waits for an answer.
    Checkpoint(CheckpointFiles),
    /// The run has moved.
    Beat,
    /// The last line.
    Ended(Result<Outcome, TrainError>),
}
