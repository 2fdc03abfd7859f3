use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The `code` of an error, as clients compare it.
pub mod code {
    pub const INVALID_VALUE: &str = "invalid_value";
    pub const MISSING: &str = "missing_required_parameter";
    pub const UNKNOWN: &str = "unknown_parameter";
    pub const UNSUPPORTED: &str = "unsupported_value";
    pub const MODEL_NOT_FOUND: &str = "model_not_found";
    pub const INVALID_MODEL: &str = "invalid_model";
    pub const INSUFFICIENT_MEMORY: &str = "insufficient_memory";
    pub const INSUFFICIENT_DISK: &str = "insufficient_disk";
    pub const FILE_NOT_FOUND: &str = "file_not_found";
    pub const INVALID_TRAINING_FILE: &str = "invalid_training_file";
    pub const INVALID_VALIDATION_FILE: &str = "invalid_validation_file";
}

/// One thing wrong with a request: which field, what about it, what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// The field's path in the body, for instance `tuning.r`.
    pub param: String,
    /// One of [`code`].
    pub code: String,
    /// A sentence for a person.
    pub message: String,
}

impl FieldError {
    pub fn new(param: impl Into<String>, code: &str, message: impl Into<String>) -> Self {
        Self {
            param: param.into(),
            code: code.to_owned(),
            message: message.into(),
        }
    }

    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(param, code::INVALID_VALUE, message)
    }
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = FineTuningError)]
pub struct JobError {
    /// For programs.
    pub code: String,
    /// For people: which thing, what was wrong, what to do.
    pub message: String,
    /// The field of the create body that was at fault.
    pub param: Option<String>,
    /// The optimizer step at which it happened.
    pub step: Option<u64>,
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
