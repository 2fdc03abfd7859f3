use std::{any::Any, time::Duration};

use taper_core::{JobState, Level, TrainError};
use taper_store::{Change, Job, JobError, StoreError, Transition};

use crate::{resume::CORRUPT, runner::Shared};

pub(crate) const RETRY: Duration = Duration::from_secs(1);
/// The code of an error that lies in the store and may pass; a job never ends with it.
const UNKEPT: &str = "store_unavailable";

/// Makes a transition happen even when the disk is full for a while: a job must not be left in a state that is no longer true.
pub(crate) async fn settle(
    shared: &Shared,
    transition: Transition,
) -> Result<Option<Job>, StoreError> {
    loop {
        match shared.store.transition(transition.clone()).await {
            Err(error) if error.may_pass() && !shared.stopping.is_cancelled() => {
                tracing::warn!(job.id = %transition.job, %error, "a job's new state could not be kept; it is tried again");
                tokio::time::sleep(RETRY).await;
            }
            settled => return settled,
        }
    }
}

/// What a refusal of the store becomes.
pub(crate) fn unkept(error: &StoreError) -> TrainError {
    let code = if error.may_pass() { UNKEPT } else { "internal" };
    TrainError::Failed {
        code: code.to_owned(),
        message: error.to_string(),
        param: None,
        step: None,
    }
}

/// Tells whether an error lies in the store and may pass, so that no job is to fail for it.
pub(crate) fn is_unkept(error: &TrainError) -> bool {
    matches!(error, TrainError::Failed { code, .. } if code == UNKEPT)
}

/// The end of a job with an error.
pub(crate) fn failed(job: &Job, from: &'static [JobState], error: TrainError) -> Transition {
    let error = match error {
        TrainError::Failed {
            code,
            message,
            param,
            step,
        } => JobError {
            code,
            message,
            param,
            step,
        },
        TrainError::Stopped(_) | TrainError::Refused(_) => JobError {
            code: "internal".to_owned(),
            message: error.to_string(),
            param: None,
            step: None,
        },
    };
    Transition {
        job: job.id.clone(),
        from,
        attempt: Some(job.attempt),
        to: JobState::Failed,
        level: Level::Error,
        message: format!("The job failed: {}", error.message),
        change: Change {
            // A retry would find the same ones and fail again.
            drop_checkpoints: error.code == CORRUPT,
            error: Some(error),
            ..Change::default()
        },
    }
}

/// What a panic becomes: the end of this job alone.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> TrainError {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    TrainError::Failed {
        code: "panic".to_owned(),
        message: format!("the training broke down by a fault of the program: {text}"),
        param: None,
        step: None,
    }
}
