use taper_core::{JobError, SpecError, Stop, TrainError};
use taper_store::StoreError;

/// Tries after which an error lasts that need not have.
const TRIES: u32 = 60;

/// Why an attempt, or the validation of a job, came to no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttemptError {
    #[error(transparent)]
    Stopped(#[from] Stop),
    /// The store or its disk refused, which may pass: no job is to fail for it.
    #[error(transparent)]
    StoreUnavailable(StoreError),
    /// The job's own end.
    #[error(transparent)]
    Failed(#[from] JobError),
}

impl From<StoreError> for AttemptError {
    fn from(error: StoreError) -> Self {
        match error.may_pass() {
            true => Self::StoreUnavailable(error),
            false => Self::internal(error.to_string()),
        }
    }
}

impl From<TrainError> for AttemptError {
    fn from(error: TrainError) -> Self {
        match error {
            TrainError::Stopped(stop) => Self::Stopped(stop),
            TrainError::Failed(error) => Self::Failed(error),
            TrainError::Refused(refused) => Self::internal(refused.to_string()),
        }
    }
}

impl From<SpecError> for AttemptError {
    fn from(error: SpecError) -> Self {
        Self::Failed(error.into())
    }
}

impl AttemptError {
    /// A fault of the program or of the machine, which the user cannot mend.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::Failed(JobError::internal(message))
    }
}

/// Tries of the same thing. Space and the database are waited for without end; an error of the disk that stays becomes the job's own.
#[derive(Debug, Default)]
pub(crate) struct Tries(u32);

impl Tries {
    /// What an error is after so many tries.
    pub(crate) fn count(&mut self, error: AttemptError) -> AttemptError {
        match error {
            AttemptError::StoreUnavailable(error) if error.may_last() => {
                self.0 += 1;
                match self.0 < TRIES {
                    true => AttemptError::StoreUnavailable(error),
                    false => AttemptError::internal(error.to_string()),
                }
            }
            other => other,
        }
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
            AttemptError::from(StoreError::Io { what, source })
        };
        let mut tries = Tries::default();
        let mut is_tried_again =
            |kind| matches!(tries.count(error(kind)), AttemptError::StoreUnavailable(_));
        for _ in 1..TRIES {
            assert!(is_tried_again(ErrorKind::PermissionDenied));
        }
        assert!(!is_tried_again(ErrorKind::PermissionDenied));
        for _ in 0..2 * TRIES {
            assert!(is_tried_again(ErrorKind::StorageFull));
        }
    }
}
