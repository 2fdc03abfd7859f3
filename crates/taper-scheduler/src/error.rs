use taper_core::{Action, ErrorCode, FieldError, JobState, SpecError};
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
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the models directory cannot be read: {0}")]
    Models(#[from] std::io::Error),
    #[error("looking at the model and the data broke down: {0}")]
    Inspection(String),
    #[error("the server is shutting down")]
    Stopping,
}

impl SchedulerError {
    /// What a refusal to keep new jobs becomes; a file that has gone since it was looked at is named by its field.
    pub fn creating(error: StoreError, training_file: &str) -> Self {
        let StoreError::UnknownFile(id) = error else {
            return error.into();
        };
        let param = if id == training_file {
            "training_file"
        } else {
            "validation_file"
        };
        SpecError::from(file_not_found(param, &id)).into()
    }
}

pub(crate) fn file_not_found(param: &str, id: &str) -> FieldError {
    let id: String = id.chars().take(60).collect();
    let message = format!("the file '{id}' does not exist; upload it with POST /v1/files");
    FieldError::new(param, ErrorCode::FileNotFound, message)
}

/// The states in which an action is possible, as a sentence lists them.
pub fn states(action: Action) -> String {
    let names: Vec<_> = action.from().iter().map(|state| state.as_str()).collect();
    match names.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => names.concat(),
    }
}
