//! How long a request may take.

use std::time::Duration;

use axum::{
    extract::{Request, State},
    http::Method,
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::wire::error::ApiError;

/// The longest that a route may take to begin its answer.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// Answers in the place of a route that does not answer in time. What it has begun to write is committed or not, as when a client
/// goes away. Bodies of answers, and with them streams and downloads, take as long as they take.
pub(crate) async fn limit(
    State(longest): State<Duration>,
    request: Request,
    next: Next,
) -> Response {
    if may_be_long(&request) {
        return next.run(request).await;
    }
    match tokio::time::timeout(longest, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::too_slow(longest).into_response(),
    }
}

/// Files come in over a line of any speed, and one that has come may be gigabytes to read, once for each configuration. The table of an
/// experiment waits for intervals over all rows of all runs.
fn may_be_long(request: &Request) -> bool {
    let path = request.uri().path();
    match *request.method() {
        Method::POST => {
            path == "/v1/files"
                || path == "/v1/fine_tuning/jobs"
                || path == "/v1/experiments"
                || path.starts_with("/v1/uploads/")
        }
        Method::GET => path.starts_with("/v1/experiments/") && path.ends_with("/table"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use axum::{
        Router, body::Body, http::StatusCode, middleware::from_fn_with_state, routing::get,
    };
    use tower::ServiceExt;

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    async fn slow() -> &'static str {
        tokio::time::sleep(SHORT * 5).await;
        "at last"
    }

    #[tokio::test]
    async fn only_files_and_tables_may_take_long() {
        let router = Router::<()>::new()
            .route("/v1/files", get(slow).post(slow))
            .route("/v1/experiments/{id}", get(slow))
            .route("/v1/experiments/{id}/table", get(slow))
            .layer(from_fn_with_state(SHORT, limit));
        for (method, path, status) in [
            (Method::GET, "/v1/files", StatusCode::SERVICE_UNAVAILABLE),
            (Method::POST, "/v1/files", StatusCode::OK),
            (
                Method::GET,
                "/v1/experiments/e",
                StatusCode::SERVICE_UNAVAILABLE,
            ),
            (Method::GET, "/v1/experiments/e/table", StatusCode::OK),
        ] {
            let request = Request::builder().method(method).uri(path);
            let request = request.body(Body::empty()).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), status);
        }
    }
}
