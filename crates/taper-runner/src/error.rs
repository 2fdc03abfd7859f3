use taper_core::{JobState, SpecError};
use taper_store::StoreError;

/// What can go wrong with a request to the runner.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error("the model '{0}' does not exist")]
    NoModel(String),
    #[error(
        "the model '{0}' lies in the models directory, which only the server's administrator changes"
    )]
    NotDeletable(String),
    #[error("the job '{0}' does not exist")]
    NoJob(String),
    #[error("job {id} is {state}; it cannot be {action}")]
    WrongState {
        id: String,
        state: JobState,
        /// `cancelled`, …
        action: &'static str,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the worker threads could not be started: {0}")]
    Workers(String),
    #[error("the models directory cannot be read: {0}")]
    Models(#[from] std::io::Error),
    #[error("looking at the model and the data broke down: {0}")]
    Inspection(String),
    #[error("the server is shutting down")]
    Stopping,
}
