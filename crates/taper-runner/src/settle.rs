use std::{any::Any, time::Duration};

use taper_core::{JobState, Level, TrainError};
use taper_store::{Change, Job, JobError, StoreError, Transition};

use crate::{resume::CORRUPT, runner::Shared};

const RETRY: Duration = Duration::from_secs(1);

/// Makes a transition happen even when the disk is full for a while: a job must not be left in a state that is no longer true.
pub(crate) async fn settle(
    shared: &Shared,
    transition: Transition,
) -> Result<Option<Job>, StoreError> {
    loop {
        match shared.store.transition(transition.clone()).await {
            Err(StoreError::NotCommitted) if !shared.stopping.is_cancelled() => {
                tokio::time::sleep(RETRY).await;
            }
            settled => return settled,
        }
    }
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
