use std::{any::Any, time::Duration};

use taper_core::{JobState, Level, TrainError};
use taper_store::{Change, Job, JobError, StoreError, Transition};

use crate::{resume::CORRUPT, scheduler::Shared};

pub(crate) const RETRY: Duration = Duration::from_secs(1);
/// The code of an error that lies in the store and may pass; a job never ends with it.
const UNKEPT: &str = "store_unavailable";
/// The same of an error that may also last.
const UNREADABLE: &str = "store_unreadable";
/// Tries after which an error lasts that need not have.
const TRIES: u32 = 60;
const INTERNAL: &str = "internal";

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
    let code = match (error.may_pass(), error.may_last()) {
        (true, true) => UNREADABLE,
        (true, false) => UNKEPT,
        (false, _) => INTERNAL,
    };
    TrainError::Failed {
        code: code.to_owned(),
        message: error.to_string(),
        param: None,
        step: None,
    }
}

/// Tells whether an error lies in the store and may pass, so that no job is to fail for it.
pub(crate) fn is_unkept(error: &TrainError) -> bool {
    matches!(error, TrainError::Failed { code, .. } if code == UNKEPT || code == UNREADABLE)
}

/// Tries of the same thing. Space and the database are waited for without end; an error of the disk that stays becomes the job's own.
#[derive(Debug, Default)]
pub(crate) struct Tries(u32);

impl Tries {
    /// What an error is after so many tries.
    pub(crate) fn count(&mut self, error: TrainError) -> TrainError {
        match error {
            TrainError::Failed {
                code,
                message,
                param,
                step,
            } if code == UNREADABLE => {
                self.0 += 1;
                let code = if self.0 < TRIES { UNREADABLE } else { INTERNAL };
                TrainError::Failed {
                    code: code.to_owned(),
                    message,
                    param,
                    step,
                }
            }
            other => other,
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
            code: INTERNAL.to_owned(),
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

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    #[test]
    fn an_error_of_the_disk_that_stays_is_the_job_s_in_the_end() {
        let error = |kind| {
            let (what, source) = ("cannot read".to_owned(), Error::from(kind));
            unkept(&StoreError::Io { what, source })
        };
        let mut tries = Tries::default();
        let mut is_tried_again = |kind| is_unkept(&tries.count(error(kind)));
        for _ in 1..TRIES {
            assert!(is_tried_again(ErrorKind::PermissionDenied));
        }
        assert!(!is_tried_again(ErrorKind::PermissionDenied));
        for _ in 0..2 * TRIES {
            assert!(is_tried_again(ErrorKind::StorageFull));
        }
    }
}
