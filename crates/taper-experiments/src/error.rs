use taper_core::{Action, JobState, SpecError};
use taper_scheduler::{SchedulerError, states};
use taper_store::StoreError;

/// What can go wrong with a request for an experiment.
#[derive(Debug, thiserror::Error)]
pub enum ExperimentError {
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error("the experiment '{0}' does not exist")]
    NoExperiment(String),
    #[error("experiment {id} is {state}; an experiment can be {} while it is {}", action.done(), states(*action))]
    WrongState {
        id: String,
        state: JobState,
        action: Action,
    },
    #[error(transparent)]
    Scheduler(#[from] SchedulerError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("comparing the runs broke down: {0}")]
    Comparison(String),
}

impl From<tokio::task::JoinError> for ExperimentError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Comparison(error.to_string())
    }
}
