//! What handlers take from a request. Every refusal is an [`ApiError`], so that no plain-text rejection of axum gets out.

use axum::{
    body::{Body, HttpBody},
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, header, request::Parts},
};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;

use super::{error::ApiError, json};
use crate::transport::body_timeout;

/// The most bytes that a JSON body may have.
const JSON_LIMIT: usize = 1 << 20;

/// The variable parts of the path, percent-decoded once.
pub(crate) struct Path<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        axum::extract::Path::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Path(value)| Self(value))
            .map_err(|rejection| {
                ApiError::bad_request(format!(
                    "the path cannot be read: {}",
                    rejection.body_text()
                ))
            })
    }
}

/// A JSON body, read strictly: one document of at most `LIMIT` bytes, 1 MiB unless told, no key twice.
pub(crate) struct JsonBody<const LIMIT: usize = JSON_LIMIT>(pub(crate) Value);

impl<S: Send + Sync, const LIMIT: usize> FromRequest<S> for JsonBody<LIMIT> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        if !has_media_type(request.headers(), "application/json") {
            return Err(ApiError::media_type(
                "this route takes JSON; send the header Content-Type: application/json",
            ));
        }
        let bytes = read(request.into_body(), LIMIT).await?;
        if bytes.trim_ascii().is_empty() {
            return Err(ApiError::bad_request(
                "the body is empty; send a JSON object",
            ));
        }
        json::parse(&bytes).map(Self).map_err(|error| {
            ApiError::bad_request(format!("the body is not valid JSON: {error}"))
                .coded(taper_core::ErrorCode::InvalidJson)
        })
    }
}

async fn read(body: Body, limit: usize) -> Result<Vec<u8>, ApiError> {
    let too_large = || ApiError::too_large("the body", limit as u64);
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    let mut chunks = body.into_data_stream();
    let whole = async {
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| broken_off(&error))?;
            if bytes.len() + chunk.len() > limit {
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(())
    };
    let came = timeout(body_timeout::TIMEOUT, whole).await;
    came.unwrap_or_else(|_| Err(ApiError::slow_body()))?;
    Ok(bytes)
}

fn broken_off(error: &axum::Error) -> ApiError {
    if body_timeout::is_cause_of(error) {
        return ApiError::slow_body();
    }
    ApiError::bad_request("the body broke off before its end; send it again")
}

/// Tells whether the body is said to be of a media type, whatever its parameters.
pub(crate) fn has_media_type(headers: &HeaderMap, wanted: &str) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|value| value.trim().eq_ignore_ascii_case(wanted))
}
