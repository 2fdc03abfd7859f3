//! How a request that is sent twice is known, so that it makes one thing: by the client's `Idempotency-Key`, or by the official
//! clients' own word that they repeat themselves. What a request has made is kept in the store's `idempotency.rs`.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use taper_store::IdempotencyKey;

use super::auth::{self, AZURE_KEY, Caller};
use crate::{transport::peer, wire::error::ApiError};

const KEY: &str = "Idempotency-Key";
const KEY_CHARS: usize = 255;
/// OpenAI's clients count their attempts in it, from 0.
const RETRIES: &str = "x-stainless-retry-count";

/// What a request is known by, still without what it asks for.
pub(crate) struct Idempotency(pub(crate) IdempotencyKey);

impl<S: Send + Sync> FromRequestParts<S> for Idempotency {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let headers = &parts.headers;
        let retries = headers.get(RETRIES).and_then(|value| value.to_str().ok());
        let retries = retries.and_then(|text| text.parse::<u32>().ok());
        let idempotency = IdempotencyKey {
            scope: String::new(),
            key: key(headers)?,
            digest: String::new(),
            retried: retries.is_some_and(|count| count > 0),
        };
        let path = parts.uri.path();
        if let Some(key) = parts
            .extensions
            .get::<Caller>()
            .and_then(|it| it.key.as_ref())
        {
            return Ok(Self(scoped(idempotency, &[path, key])));
        }
        // Without a key of any kind the address is all that tells callers apart. A key of the client's own holds wherever it comes from.
        let unknown = idempotency.key.is_none() && !auth::shows_key(headers);
        let peer = peer(parts).filter(|_| unknown).unwrap_or_default();
        let caller = [header::AUTHORIZATION, header::COOKIE, AZURE_KEY]
            .map(|name| headers.get(name).map_or(&b""[..], |value| value.as_bytes()));
        let [authorization, cookie, azure_key] = caller.map(String::from_utf8_lossy);
        let mut shown = vec![path, &authorization, &cookie, &peer];
        // What was made before this header was read has a scope without it.
        shown.extend(headers.contains_key(AZURE_KEY).then_some(&*azure_key));
        Ok(Self(scoped(idempotency, &shown)))
    }
}

/// The same, within what this caller has made on this route.
fn scoped(idempotency: IdempotencyKey, caller: &[&str]) -> IdempotencyKey {
    let idempotency = idempotency.asking(caller);
    IdempotencyKey {
        scope: idempotency.digest,
        digest: String::new(),
        ..idempotency
    }
}

/// The address that a request comes from. A client may call this machine by IPv4 and then by IPv6.
fn peer(parts: &Parts) -> Option<String> {
    let ip = peer::address(&parts.extensions)?;
    Some(if ip.is_loopback() {
        "here".to_owned()
    } else {
        ip.to_string()
    })
}

fn key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all(KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    let legal = !text.is_empty() && text.len() <= KEY_CHARS;
    if legal && text.bytes().all(|b| b.is_ascii_graphic()) && values.next().is_none() {
        return Ok(Some(text.to_owned()));
    }
    let message = format!(
        "'{KEY}' must stand once, with 1 to {KEY_CHARS} printable ASCII characters without blanks"
    );
    Err(ApiError::invalid(KEY, message))
}
