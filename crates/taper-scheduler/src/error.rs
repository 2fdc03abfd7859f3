use taper_core::{Action, JobState, SpecError};
use taper_store::StoreError;

/// What can go wrong with a request to the scheduler.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
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
    #[error("job {id} is {state}; a job can be {} while it is {}", action.done(), states(*action))]
    WrongState {
        id: String,
        state: JobState,
        action: Action,
    },
    #[error(
        "job {id} waits for the other runs of experiment {experiment}, which decides whether it goes on; resume the experiment if that is paused"
    )]
    AtRung { id: String, experiment: String },
    #[error("the experiment '{0}' does not exist")]
    NoExperiment(String),
    #[error("experiment {id} is {state}; an experiment can be {} while it is {}", action.done(), states(*action))]
    WrongExperimentState {
        id: String,
        state: JobState,
        action: Action,
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

/// The states in which an action is possible, as a sentence lists them.
fn states(action: Action) -> String {
    let names: Vec<_> = action.from().iter().map(|state| state.as_str()).collect();
    match names.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => names.concat(),
    }
}
