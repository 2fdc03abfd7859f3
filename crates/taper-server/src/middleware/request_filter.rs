//! What no route takes.

use axum::{
    body::HttpBody,
    extract::Request,
    http::{Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::wire::{error::ApiError, extract::has_media_type};

/// Names under which other services take a key in the address.
const KEYS: [&str; 6] = [
    "api_key",
    "api-key",
    "apikey",
    "access_token",
    "token",
    "key",
];
const MEDIA_TYPES: [&str; 2] = ["application/json", "multipart/form-data"];

/// Refuses keys in addresses, and bodies that no route reads, whatever the method and the route.
pub(crate) async fn filter(request: Request, next: Next) -> Response {
    let passed = check_query(request.uri()).and_then(|()| check_body(&request));
    match passed {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// Addresses end up in logs and histories.
fn check_query(uri: &Uri) -> Result<(), ApiError> {
    let pairs = uri.query().unwrap_or_default().split('&');
    let mut names = pairs.map(|pair| pair.split('=').next().unwrap_or_default());
    let Some(name) = names.find(|name| KEYS.iter().any(|key| key.eq_ignore_ascii_case(name)))
    else {
        return Ok(());
    };
    let message = format!(
        "'{name}': a key in the address is refused, for addresses are logged; send the header Authorization: Bearer KEY"
    );
    Err(ApiError::invalid(name, message))
}

/// A foreign page can make a browser send a body, but not one of these types without asking first.
fn check_body(request: &Request) -> Result<(), ApiError> {
    let headers = request.headers();
    let known = MEDIA_TYPES.iter().any(|it| has_media_type(headers, it));
    if known || request.body().is_end_stream() {
        return Ok(());
    }
    let sent = headers.get(header::CONTENT_TYPE);
    let sent = sent.map_or("no Content-Type", |value| {
        value.to_str().unwrap_or("an unreadable Content-Type")
    });
    Err(ApiError::media_type(&format!(
        "a body must be {}, not {}; send the header Content-Type",
        MEDIA_TYPES.join(" or "),
        crate::wire::error::readable(sent)
    )))
}
