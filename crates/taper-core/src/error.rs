use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Writes down each code once: its name here and its text in the API.
macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// The `code` of an error, as clients compare it; its text is the API's `code`.
        #[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)+
            /// One that an older or a newer version has stored: it is only read.
            Other(String),
        }

        impl ErrorCode {
            /// The text in the API and in the database.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$name => $text,)+
                    Self::Other(text) => text,
                }
            }
        }

        impl From<String> for ErrorCode {
            fn from(text: String) -> Self {
                match text.as_str() {
                    $($text => Self::$name,)+
                    _ => Self::Other(text),
                }
            }
        }
    };
}

error_codes! {
    // What is wrong with a request.
    InvalidValue = "invalid_value",
    MissingParameter = "missing_required_parameter",
    UnknownParameter = "unknown_parameter",
    UnsupportedValue = "unsupported_value",
    ModelNotFound = "model_not_found",
    InvalidModel = "invalid_model",
    InsufficientMemory = "insufficient_memory",
    InsufficientDisk = "insufficient_disk",
    FileNotFound = "file_not_found",
    InvalidTrainingFile = "invalid_training_file",
    InvalidValidationFile = "invalid_validation_file",
    InvalidJson = "invalid_json",
    /// Not possible in the state of the job, the experiment or the upload.
    InvalidState = "invalid_state",
    FileInUse = "file_in_use",
    ModelInUse = "model_in_use",
    IdempotencyKeyReused = "idempotency_key_reused",
    HostNotAllowed = "host_not_allowed",
    OriginNotAllowed = "origin_not_allowed",
    InvalidApiKey = "invalid_api_key",
    InsufficientPermissions = "insufficient_permissions",
    RateLimitExceeded = "rate_limit_exceeded",
    RequestTimeout = "request_timeout",
    UnknownUrl = "unknown_url",
    /// The server has no space for anything new.
    InsufficientStorage = "insufficient_storage",

    // Why a run has failed.
    /// A loss or a gradient became infinite or undefined.
    NonFinite = "non_finite",
    NoGradient = "no_gradient",
    /// None of the job's checkpoints is whole.
    CheckpointCorrupt = "checkpoint_corrupt",
    /// The checkpoint does not go with what the run stands on now.
    CheckpointUnusable = "checkpoint_unusable",
    /// The artifacts say something else than the model that they were written from.
    ExportMismatch = "export_mismatch",
    /// The disk was full.
    NoSpace = "no_space",
    /// It did not move for too long.
    Stuck = "stuck",
    RunTimeout = "run_timeout",
    Panic = "panic",
    /// Its process or the server ended under it.
    Crashed = "crashed",
    OomKilled = "oom_killed",
    Internal = "internal",
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<ErrorCode> for String {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::Other(text) => text,
            code => code.as_str().to_owned(),
        }
    }
}

/// One thing wrong with a request: which field, what about it, what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// The field's path in the body, for instance `tuning.r`.
    pub param: String,
    pub code: ErrorCode,
    /// A sentence for a person.
    pub message: String,
}

impl FieldError {
    pub fn new(param: impl Into<String>, code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            param: param.into(),
            code,
            message: message.into(),
        }
    }

    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(param, ErrorCode::InvalidValue, message)
    }
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize, ToSchema)]
#[schema(as = FineTuningError)]
#[error("{message}")]
pub struct JobError {
    /// For programs.
    #[schema(value_type = String)]
    pub code: ErrorCode,
    /// For people: which thing, what was wrong, what to do.
    pub message: String,
    /// The field of the create body that was at fault.
    pub param: Option<String>,
    /// The optimizer step at which it happened.
    pub step: Option<u64>,
}

impl JobError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            param: None,
            step: None,
        }
    }

    /// A fault of the program or of the machine, which the user cannot mend.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, message)
    }

    /// Names the optimizer step at which it happened.
    #[must_use]
    pub fn at_step(mut self, step: u64) -> Self {
        self.step = Some(step);
        self
    }

    /// Names the field of the create body that was at fault.
    #[must_use]
    pub fn about(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }
}

impl From<SpecError> for JobError {
    fn from(error: SpecError) -> Self {
        let first = error.first();
        Self::new(first.code.clone(), error.to_string()).about(first.param.clone())
    }
}

/// Everything wrong with a job's specification; never empty. The first finding names the `param` of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecError(Vec<FieldError>);

impl SpecError {
    /// Turns findings into an error, or into `Ok` when there are none.
    pub fn check(findings: Vec<FieldError>) -> Result<(), Self> {
        if findings.is_empty() {
            Ok(())
        } else {
            Err(Self(findings))
        }
    }

    /// The first finding.
    pub fn first(&self) -> &FieldError {
        &self.0[0]
    }

    /// The same error with each finding told in another way.
    pub(crate) fn map(&self, tell: impl Fn(&FieldError) -> FieldError) -> Self {
        Self(self.0.iter().map(tell).collect())
    }

    /// All findings, in the order of the fields.
    pub fn findings(&self) -> &[FieldError] {
        &self.0
    }
}

impl From<FieldError> for SpecError {
    fn from(finding: FieldError) -> Self {
        Self(vec![finding])
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, finding) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            f.write_str(&finding.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for SpecError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_that_is_not_known_keeps_its_text() {
        for text in [
            "checkpoint_unusable",
            "missing_required_parameter",
            "of_another_version",
        ] {
            let stored = format!("\"{text}\"");
            let code: ErrorCode = serde_json::from_str(&stored).unwrap();
            assert_eq!(
                matches!(code, ErrorCode::Other(_)),
                text == "of_another_version"
            );
            assert_eq!(code.as_str(), text);
            assert_eq!(serde_json::to_string(&code).unwrap(), stored);
        }
    }
}
