use axum::{
    Extension,
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::IntoResponse,
};

use crate::{
    openapi::Description,
    state::AppState,
    wire::error::{ApiError, ErrorBody},
};

/// Tell that the process answers
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "service",
    responses((status = 200, description = "It does", body = String, content_type = "text/plain")),
)]
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Tell that jobs can be taken
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "service",
    responses(
        (status = 200, description = "They can", body = String, content_type = "text/plain"),
        (status = 503, description = "The database takes no writes, or the server is ending", body = ErrorBody),
    ),
)]
pub(crate) async fn readyz(State(state): State<AppState>) -> Result<&'static str, ApiError> {
    if state.shutdown.is_cancelled() {
        return Err(ApiError::ending());
    }
    state.store.ready().await.map_err(|error| {
        tracing::error!(%error, "the database takes no writes");
        ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the database takes no writes; the server's log says why",
        )
    })?;
    Ok("ready\n")
}

/// Describe the API
///
/// This description.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "service",
    responses((status = 200, description = "OpenAPI 3.1", body = Object)),
)]
pub(crate) async fn openapi_json(
    Extension(Description(text)): Extension<Description>,
) -> impl IntoResponse {
    let headers: [(HeaderName, HeaderValue); 1] = [(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    )];
    (headers, text.to_string())
}
