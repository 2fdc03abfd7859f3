use safetensors::SafeTensorError;
use taper_core::{
    CheckpointRefused, ErrorCode, FieldError, JobError, PublishRefused, SpecError, Stop, TrainError,
};

/// What can go wrong in the engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something a user can mend: data, model folder, settings.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The run was asked to stop.
    #[error(transparent)]
    Stopped(#[from] Stop),
    /// A newer attempt of the job exists.
    #[error(transparent)]
    Refused(#[from] PublishRefused),
    /// A loss or gradient became infinite or undefined.
    #[error("{what} is not finite at step {step}; {advice}; {}", left(*checkpoint))]
    NonFinite {
        what: String,
        step: u64,
        advice: &'static str,
        /// The step of the last checkpoint before.
        checkpoint: Option<u64>,
    },
    /// A parameter that should be trained got no gradient: a defect of the engine, never trained over.
    #[error(
        "the parameter {name} got no gradient at step {step}, although the loss depends on it; this is a defect of taper, please report it with the job's settings"
    )]
    NoGradient { name: String, step: u64 },
    /// A checkpoint that the run should go on from and cannot.
    #[error("the checkpoint in {dir} cannot be used: {refused}")]
    Checkpoint {
        dir: String,
        refused: CheckpointRefused,
    },
    /// The artifacts say something else than the model that they were written from.
    #[error("the artifacts were written, but read back {0}")]
    ExportMismatch(String),
    #[error("{doing}: {source}")]
    Io {
        doing: String,
        source: std::io::Error,
    },
    #[error("tensor arithmetic: {0}")]
    Tensor(#[from] candle_core::Error),
    #[error("safetensors: {0}")]
    Safetensors(#[source] SafeTensorError),
    #[error("json: {0}")]
    Json(#[from] serde_json::Error),
    #[error("csv: {0}")]
    Csv(#[from] csv::Error),
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Notes the last checkpoint from before the numbers went wrong.
    pub(crate) fn after(mut self, last: Option<u64>) -> Self {
        if let Self::NonFinite { checkpoint, .. } = &mut self {
            *checkpoint = last;
        }
        self
    }

    /// Something wrong with the model folder, which the administrator can mend.
    pub(crate) fn model(message: impl Into<String>) -> Self {
        Self::Spec(FieldError::new("model", ErrorCode::InvalidModel, message).into())
    }
}

/// Says what is left of a run that went wrong.
fn left(checkpoint: Option<u64>) -> String {
    match checkpoint {
        Some(step) => format!("the last good checkpoint is that of step {step}"),
        None => "there is no checkpoint from before".to_owned(),
    }
}

impl From<FieldError> for Error {
    fn from(finding: FieldError) -> Self {
        Self::Spec(finding.into())
    }
}

impl From<SafeTensorError> for Error {
    fn from(error: SafeTensorError) -> Self {
        match error {
            // A disk may be full here as anywhere.
            SafeTensorError::IoError(source) => Self::Io {
                doing: "cannot write tensors".to_owned(),
                source,
            },
            other => Self::Safetensors(other),
        }
    }
}

impl From<Error> for TrainError {
    fn from(error: Error) -> Self {
        let step = match &error {
            Error::NonFinite { step, .. } | Error::NoGradient { step, .. } => Some(*step),
            _ => None,
        };
        let code = match &error {
            Error::Spec(spec) => return spec.clone().into(),
            Error::Stopped(stop) => return Self::Stopped(*stop),
            Error::Refused(refused) => return Self::Refused(refused.clone()),
            Error::NonFinite { .. } => ErrorCode::NonFinite,
            Error::NoGradient { .. } => ErrorCode::NoGradient,
            // Whether the job has another one, the scheduler knows.
            Error::Checkpoint { .. } => ErrorCode::CheckpointUnusable,
            Error::ExportMismatch(_) => ErrorCode::ExportMismatch,
            Error::Io { source, .. } if is_full(source) => ErrorCode::NoSpace,
            Error::Io { .. }
            | Error::Tensor(_)
            | Error::Safetensors(_)
            | Error::Json(_)
            | Error::Csv(_) => ErrorCode::Internal,
        };
        Self::Failed(JobError {
            step,
            ..JobError::new(code, error.to_string())
        })
    }
}

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

/// Names what was being done when an I/O error happened.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io {
            doing: what(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind};

    use super::*;

    #[test]
    fn a_disk_that_is_full_under_tensors_is_told_as_one() {
        for (kind, wanted) in [
            (ErrorKind::StorageFull, ErrorCode::NoSpace),
            (ErrorKind::QuotaExceeded, ErrorCode::NoSpace),
            (ErrorKind::PermissionDenied, ErrorCode::Internal),
        ] {
            let error = SafeTensorError::IoError(io::Error::from(kind));
            let failed = TrainError::from(Error::from(error));
            assert!(
                matches!(&failed, TrainError::Failed(error) if error.code == wanted),
                "{failed:?}"
            );
        }
    }
}
