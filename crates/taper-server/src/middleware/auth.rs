//! Who a request comes from, and what that key may do.

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, HeaderName, Method, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use taper_core::Role;
use taper_store::{ApiKey, Scope};

use super::{is_api, session_cookie};
use crate::{state::AppState, wire::error::ApiError};

/// The way in, which a request takes that has nothing to show yet.
const SIGN_IN: &str = "/v1/session";
const HOW: &str = "send one header Authorization: Bearer KEY; a key in the query is not read";
/// Where Azure's client of OpenAI's API shows its key.
pub(super) const AZURE_KEY: HeaderName = HeaderName::from_static("api-key");

/// Who a request comes from.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) role: Role,
    pub(crate) scope: Scope,
    /// The key by name; `None` = nobody in particular, as long as there are no keys.
    pub(crate) key: Option<String>,
    /// When the session ends that the request comes from.
    pub(crate) until: Option<i64>,
    credential: Credential,
}

/// What a request shows to be let in. It is not for logs.
#[derive(Clone)]
enum Credential {
    None,
    Key(String),
    /// The word of a session's cookie.
    Session(String),
}

impl Credential {
    /// Reads a request's headers; a key that is shown openly wins over a cookie.
    fn read(headers: &HeaderMap) -> Result<Self, ApiError> {
        if shows_key(headers) {
            return key(headers).map(|key| Self::Key(key.to_owned()));
        }
        Ok(session_cookie::session(headers).map_or(Self::None, Self::Session))
    }
}

/// Lets requests in that show what their route asks for, and tells the handlers who they come from.
pub(crate) async fn authenticate(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    if needs_key(&parts) {
        match admit(&state, &parts).await {
            Ok(caller) => parts.extensions.insert(caller),
            Err(error) => return error.into_response(),
        };
    }
    next.run(Request::from_parts(parts, body)).await
}

/// Everything of the API, and what a server does, which is nobody's business but its users'.
fn needs_key(request: &Parts) -> bool {
    let path = request.uri.path();
    let signs_in = path == SIGN_IN && request.method == Method::POST;
    (is_api(path) && !signs_in) || path == "/metrics"
}

async fn admit(state: &AppState, request: &Parts) -> Result<Caller, ApiError> {
    let caller = match is_open(state).await? {
        true => Caller::anybody(),
        false => identify(state, Credential::read(&request.headers)?).await?,
    };
    let changes = !matches!(request.method, Method::GET | Method::HEAD);
    match (request.uri.path(), caller.role) {
        ("/metrics", Role::Submit | Role::Read) => Err(ApiError::forbidden(
            "the server's figures are shown to keys with the role admin alone",
        )),
        // A session may be ended with any key.
        (path, Role::Read) if changes && path != SIGN_IN => Err(ApiError::forbidden(
            "a key with the role read may only look; take one with the role submit to change things",
        )),
        _ => Ok(caller),
    }
}

/// Tells whether everybody is served: from this machine alone, and as long as no key has ever been made.
async fn is_open(state: &AppState) -> Result<bool, ApiError> {
    let config = &state.config;
    let here_alone = config.bound.ip().is_loopback() && config.token.is_none();
    Ok(here_alone && !state.store.has_keys().await?)
}

/// Finds the key that a client shows; `None` = the one of the environment.
///
/// # Errors
/// 401
async fn find_key(state: &AppState, shown: &str) -> Result<Option<ApiKey>, ApiError> {
    if state.config.is_token(shown) {
        return Ok(None);
    }
    let key = state.store.key(shown).await?;
    key.map(Some)
        .ok_or_else(|| ApiError::unauthorized("the API key is not valid here"))
}

/// Begins a session with a key, and tells the word for its cookie.
///
/// # Errors
/// 401
pub(crate) async fn sign_in(state: &AppState, shown: &str) -> Result<(String, Caller), ApiError> {
    let key = find_key(state, shown).await?;
    let environment = state.config.token_digest();
    let (word, session) = state.store.open_session(key.as_ref(), environment).await?;
    let caller = Caller {
        until: Some(session.expires_at),
        ..Caller::with(key.as_ref(), Credential::Session(word.clone()))
    };
    Ok((word, caller))
}

/// Finds who shows a credential.
///
/// # Errors
/// 401
async fn identify(state: &AppState, credential: Credential) -> Result<Caller, ApiError> {
    let (key, until) = match &credential {
        Credential::None => {
            return Err(ApiError::unauthorized(HOW));
        }
        Credential::Key(shown) => (find_key(state, shown).await?, None),
        Credential::Session(word) => {
            let found = state
                .store
                .session(word, state.config.token_digest())
                .await?;
            let session = found.ok_or_else(|| {
                ApiError::unauthorized("the session has ended; sign in with a key again")
            })?;
            (session.key, Some(session.expires_at))
        }
    };
    Ok(Caller {
        until,
        ..Caller::with(key.as_ref(), credential)
    })
}

impl Caller {
    /// Whoever asks while there are no keys.
    fn anybody() -> Self {
        Self {
            role: Role::Admin,
            scope: Scope::All,
            key: None,
            until: None,
            credential: Credential::None,
        }
    }

    /// The owner of a key; `None` = the one of the environment.
    fn with(key: Option<&ApiKey>, credential: Credential) -> Self {
        let name = key.map_or_else(|| "environment".to_owned(), |key| format!("key {}", key.id));
        Self {
            role: key.map_or(Role::Admin, |key| key.role),
            scope: key.map_or(Scope::All, |key| key.scope.clone()),
            key: Some(name),
            until: None,
            credential,
        }
    }

    /// Tells whether the caller would still be let in: the key may have been revoked, the session ended, or a first key made.
    pub(crate) async fn is_still_authorized(&self, state: &AppState) -> bool {
        match &self.credential {
            Credential::None => is_open(state).await.unwrap_or(false),
            shown => identify(state, shown.clone()).await.is_ok(),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| ApiError::internal("a route asks for its caller outside the API"))
    }
}

/// Tells whether a header shows a key.
pub(crate) fn shows_key(headers: &HeaderMap) -> bool {
    headers.contains_key(header::AUTHORIZATION) || headers.contains_key(AZURE_KEY)
}

/// The key in the Authorization header, or in that of Azure's client.
///
/// # Errors
/// 401
pub(crate) fn key(headers: &HeaderMap) -> Result<&str, ApiError> {
    let bearer = headers.get_all(header::AUTHORIZATION).iter();
    let bearer = bearer.map(|value| {
        let (scheme, secret) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(secret)
    });
    let plain = headers.get_all(AZURE_KEY).iter();
    let mut shown = bearer.chain(plain.map(|value| value.to_str().ok()));
    match (shown.next().flatten().map(str::trim), shown.next()) {
        (Some(secret), None) if !secret.is_empty() => Ok(secret),
        _ => Err(ApiError::unauthorized(HOW)),
    }
}
