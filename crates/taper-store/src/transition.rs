use taper_core::{JobState, Level, Metrics, NewEvent, Plan};

use crate::{Artifact, Job, JobError, Store, StoreError};

/// A change of a job's state, with what must hold for it to happen.
#[derive(Debug, Clone)]
pub struct Transition {
    pub job: String,
    /// States from which it may happen.
    pub from: &'static [JobState],
    /// The attempt that must be the job's current one.
    pub attempt: Option<u32>,
    pub to: JobState,
    /// How the event of the new state reads.
    pub level: Level,
    pub message: String,
    pub change: Change,
}

/// What a transition changes besides the state.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Events that led to the new state; they stand before its own.
    pub events: Vec<NewEvent>,
    pub plan: Option<Plan>,
    pub error: Option<JobError>,
    pub result: Option<JobResult>,
}

/// What a job leaves that has succeeded.
#[derive(Debug, Clone, Default)]
pub struct JobResult {
    pub fine_tuned_model: String,
    pub trained_tokens: u64,
    pub metrics: Metrics,
    pub artifacts: Vec<Artifact>,
    /// Ids of files.
    pub result_files: Vec<String>,
}

/// What became of the jobs under which the last server ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    pub queued: Vec<String>,
    pub failed: Vec<String>,
}

impl Store {
    /// Changes a job's state if all that the transition asks for holds; `None` = it did not happen.
    pub async fn transition(&self, transition: Transition) -> Result<Option<Job>, StoreError> {
        unimplemented!("{transition:?}")
    }

    /// Takes the next job of the queue and makes it running under a new attempt.
    pub async fn claim(&self) -> Result<Option<Job>, StoreError> {
        unimplemented!()
    }

    /// Puts the jobs that were running when the last server ended back into the queue, or lets them fail after three crashes.
    pub async fn recover(&self) -> Result<Recovered, StoreError> {
        unimplemented!()
    }
}
