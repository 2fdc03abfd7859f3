//! What every request passes before a route sees it, and every answer on its way out. The order stands in `router.rs`.

pub(crate) mod auth;
pub(crate) mod host_and_origin;
pub(crate) mod idempotency;
pub(crate) mod rate_limit;
pub(crate) mod request_filter;
pub(crate) mod request_id;
pub(crate) mod request_timeout;
pub(crate) mod security_headers;
pub(crate) mod session_cookie;
pub(crate) mod stream_authorization;

/// Tells whether a path belongs to the API rather than to the page.
pub(crate) fn is_api(path: &str) -> bool {
    path == "/v1" || path.starts_with("/v1/")
}
