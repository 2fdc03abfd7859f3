use std::{io, time::Duration};

use axum::{
    Json,
    http::{HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use taper_core::{ErrorCode, FieldError, SpecError};
use taper_experiments::ExperimentError;
use taper_scheduler::SchedulerError;
use taper_store::StoreError;
use utoipa::ToSchema;

use crate::transport::body_timeout;

/// The body of every error, in OpenAI's shape.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorDetail {
    /// For people: which thing, what was wrong, what to do.
    pub message: String,
    /// `invalid_request_error`, `authentication_error`, `requests` (too many of them) or `server_error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The path of the field that was wrong, for instance `tuning.r`.
    pub param: Option<String>,
    /// For programs, for instance `invalid_value`.
    pub code: Option<String>,
}

/// An error on its way to the client. Everything that a route or the middleware refuses becomes one of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ApiError {
    status: StatusCode,
    message: String,
    param: Option<String>,
    code: Option<ErrorCode>,
    /// Name, in lower case, and value.
    header: Option<(&'static str, &'static str)>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            param: None,
            code: None,
            header: None,
        }
    }

    /// 400 that belongs to no single field.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 400 about one field.
    pub(crate) fn invalid(param: &str, message: impl Into<String>) -> Self {
        FieldError::invalid(param, message).into()
    }

    /// 404 for an id that names nothing; `what` is the kind of thing in words, `list` the route that lists them.
    pub(crate) fn not_found(what: &str, id: &str, list: &str) -> Self {
        let id = readable(id);
        let message = format!("no such {what}: '{id}'; GET {list} lists what there is");
        Self::new(StatusCode::NOT_FOUND, message).about("id")
    }

    /// 404 for a job.
    pub(crate) fn no_job(id: &str) -> Self {
        Self::not_found("fine-tuning job", id, "/v1/fine_tuning/jobs")
    }

    /// 404 for an experiment.
    pub(crate) fn no_experiment(id: &str) -> Self {
        Self::not_found("experiment", id, "/v1/experiments")
    }

    /// 404 for a file.
    pub(crate) fn no_file(id: &str) -> Self {
        Self::not_found("file", id, "/v1/files")
    }

    /// 404 for an upload; uploads are not listed anywhere.
    pub(crate) fn no_upload(id: &str) -> Self {
        let message = format!(
            "no such upload: '{}'; begin one with POST /v1/uploads",
            readable(id)
        );
        Self::new(StatusCode::NOT_FOUND, message).about("id")
    }

    /// 404 for an artifact of a job that there is.
    pub(crate) fn no_artifact(job: &str, path: &str) -> Self {
        let list = format!("/v1/fine_tuning/jobs/{job}/artifacts");
        Self::not_found("artifact", path, &list).about("path")
    }

    /// 400 for an `after` that is no id of the list.
    pub(crate) fn unknown_cursor(id: &str) -> Self {
        let message = format!("'after' names nothing in this list: {}", readable(id));
        Self::invalid("after", message)
    }

    /// 404 where no route is; `hint` says what to do.
    pub(crate) fn no_route(path: &str, hint: &str) -> Self {
        let message = format!("no such route: {}; {hint}", readable(path));
        Self::new(StatusCode::NOT_FOUND, message).coded(ErrorCode::UnknownUrl)
    }

    pub(crate) fn too_large(what: &str, limit: u64) -> Self {
        let message = format!("{what} is larger than {limit} bytes, the most this route takes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    pub(crate) fn media_type(message: &str) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
    }

    pub(crate) fn unauthorized(message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
            .coded(ErrorCode::InvalidApiKey)
            .with("www-authenticate", "Bearer")
    }

    /// 403 for a key that may not do this.
    pub(crate) fn forbidden(message: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, message).coded(ErrorCode::InsufficientPermissions)
    }

    /// 429: the sentence says who may send how much.
    pub(crate) fn too_many(limit: &str) -> Self {
        let message = format!("too many requests: {limit}; send it again a second later");
        Self::new(StatusCode::TOO_MANY_REQUESTS, message)
            .coded(ErrorCode::RateLimitExceeded)
            .with("retry-after", "1")
    }

    /// 408: the client has not sent what it began to send.
    pub(crate) fn slow_body() -> Self {
        let seconds = body_timeout::TIMEOUT.as_secs();
        let message = format!("the body has not come within {seconds} seconds; send it again");
        Self::new(StatusCode::REQUEST_TIMEOUT, message).coded(ErrorCode::RequestTimeout)
    }

    /// 503: the server has taken too long.
    pub(crate) fn too_slow(longest: Duration) -> Self {
        let seconds = longest.as_secs();
        let message =
            format!("there was no answer within {seconds} seconds; send the request again later");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message).with("retry-after", "5")
    }

    /// 503 while the server shuts down.
    pub(crate) fn ending() -> Self {
        let message = "the server is ending; send the request again later";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message).with("retry-after", "5")
    }

    /// 507: trying again does not help until somebody has made space, so clients are told not to.
    pub(crate) fn no_space(cause: impl std::fmt::Display) -> Self {
        let message = format!(
            "there is no space for anything new: {cause}; delete jobs or files that are no longer needed"
        );
        Self::new(StatusCode::INSUFFICIENT_STORAGE, message)
            .coded(ErrorCode::InsufficientStorage)
            .with("x-should-retry", "false")
    }

    /// 503 while the database takes no writes, for instance because another process has locked it.
    pub(crate) fn not_committed(cause: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, cause.to_string()).with("retry-after", "5")
    }

    /// 500; the cause goes to the log, under the request's id, and not to the client.
    pub(crate) fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "a request failed inside the server");
        let message =
            "the server failed to answer; its log says why, under this answer's x-request-id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// Names the field.
    #[must_use]
    pub(crate) fn about(mut self, param: &str) -> Self {
        self.param = Some(param.to_owned());
        self
    }

    /// Sets the code for programs.
    #[must_use]
    pub(crate) fn coded(mut self, code: ErrorCode) -> Self {
        self.code = Some(code);
        self
    }

    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.header = Some((name, value));
        self
    }

    fn kind(&self) -> &'static str {
        match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::TOO_MANY_REQUESTS => "requests",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let kind = self.kind().to_owned();
        let body = ErrorBody {
            error: ErrorDetail {
                message: self.message,
                kind,
                param: self.param,
                code: self.code.map(String::from),
            },
        };
        let mut response = (self.status, Json(body)).into_response();
        if let Some((name, value)) = self.header {
            response
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

impl From<FieldError> for ApiError {
    fn from(finding: FieldError) -> Self {
        SpecError::from(finding).into()
    }
}

impl From<SpecError> for ApiError {
    fn from(error: SpecError) -> Self {
        let first = error.first();
        Self {
            param: Some(first.param.clone()).filter(|param| !param.is_empty()),
            code: Some(first.code.clone()),
            ..Self::bad_request(error.to_string())
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::UnknownCursor(id) => Self::unknown_cursor(&id),
            StoreError::FileInUse { .. } => {
                Self::bad_request(error.to_string()).coded(ErrorCode::FileInUse)
            }
            StoreError::UnknownFile(_) => Self::bad_request(error.to_string())
                .about("training_file")
                .coded(ErrorCode::FileNotFound),
            StoreError::ModelInUse { .. } => {
                Self::bad_request(error.to_string()).coded(ErrorCode::ModelInUse)
            }
            StoreError::KeyReused(_) => Self::invalid("Idempotency-Key", error.to_string())
                .coded(ErrorCode::IdempotencyKeyReused),
            StoreError::UploadClosed { .. } => {
                Self::bad_request(error.to_string()).coded(ErrorCode::InvalidState)
            }
            StoreError::UploadTooLong { .. } => Self::invalid("data", error.to_string()),
            StoreError::UploadIncomplete { .. } | StoreError::UnknownPart(_) => {
                Self::invalid("part_ids", error.to_string())
            }
            StoreError::WrongSum { .. } => Self::invalid("md5", error.to_string()),
            StoreError::Closed => Self::ending(),
            StoreError::NoSpace(shortage) => Self::no_space(shortage),
            StoreError::NotCommitted => Self::not_committed(error),
            StoreError::Io { ref source, .. } if is_full(source) => {
                tracing::error!(%error, "the disk is full");
                Self::no_space("the disk of the data directory is full")
            }
            other => Self::internal(other),
        }
    }
}

impl From<SchedulerError> for ApiError {
    fn from(error: SchedulerError) -> Self {
        match error {
            SchedulerError::Spec(error) => error.into(),
            SchedulerError::Store(error) => error.into(),
            SchedulerError::NoModel(id) => Self::not_found("model", &id, "/v1/models")
                .about("model")
                .coded(ErrorCode::ModelNotFound),
            SchedulerError::NotDeletable(_) => Self::bad_request(error.to_string()).about("id"),
            SchedulerError::NoJob(id) => Self::no_job(&id),
            SchedulerError::WrongState { .. } | SchedulerError::AtRung { .. } => {
                Self::bad_request(error.to_string()).coded(ErrorCode::InvalidState)
            }
            SchedulerError::Stopping => Self::ending(),
            SchedulerError::Models(_) | SchedulerError::Inspection(_) => Self::internal(error),
        }
    }
}

impl From<ExperimentError> for ApiError {
    fn from(error: ExperimentError) -> Self {
        match error {
            ExperimentError::Spec(error) => error.into(),
            ExperimentError::Scheduler(error) => error.into(),
            ExperimentError::Store(error) => error.into(),
            ExperimentError::NoExperiment(id) => Self::no_experiment(&id),
            ExperimentError::WrongState { .. } => {
                Self::bad_request(error.to_string()).coded(ErrorCode::InvalidState)
            }
            ExperimentError::Comparison(_) => Self::internal(error),
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Text of a client as it may stand in a message: short, and without control characters.
pub(crate) fn readable(text: &str) -> String {
    const MOST: usize = 80;
    let shown: String = text
        .chars()
        .take(MOST)
        .flat_map(|c| {
            let plain = !c.is_control();
            plain
                .then_some(c)
                .into_iter()
                .chain((!plain).then(|| c.escape_default()).into_iter().flatten())
        })
        .collect();
    if text.chars().nth(MOST).is_some() {
        shown + "…"
    } else {
        shown
    }
}
