//! An id for each request.

use std::time::Instant;

use axum::{extract::Request, http::HeaderValue, middleware::Next, response::Response};
use tracing::Instrument;
use uuid::Uuid;

/// Gives the request an id that its answer, its log lines and its errors share.
pub(crate) async fn identify(request: Request, next: Next) -> Response {
    let id = format!("req_{}", Uuid::new_v4().simple());
    let span =
        tracing::info_span!("request", id, method = %request.method(), path = request.uri().path());
    let start = Instant::now();
    let mut response = next.run(request).instrument(span.clone()).await;
    span.in_scope(|| {
        tracing::debug!(
            status = response.status().as_u16(),
            duration_ms = start.elapsed().as_millis() as u64,
            "answered"
        );
    });
    let id = HeaderValue::from_str(&id).expect("hexadecimal digits are legal in a header");
    response.headers_mut().insert("x-request-id", id);
    response
}
