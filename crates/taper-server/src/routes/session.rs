use axum::{
    Json,
    body::HttpBody,
    extract::{FromRequest, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
};
use taper_store::Session;

use crate::{
    middleware::{
        auth::{self, Caller},
        session_cookie,
    },
    state::AppState,
    wire::{CreateSession, SessionObject, error::ApiError, extract::JsonBody},
};

type WithCookie<T> = ([(HeaderName, HeaderValue); 1], T);

/// Begin a session
///
/// For the page: the key in the `Authorization` header or in the body is exchanged for a cookie that scripts cannot read. It lasts
/// for a week, until it is ended, or until the key is revoked.
#[utoipa::path(
    post,
    path = "/v1/session",
    tag = "service",
    security(()),
    request_body(content = Option<CreateSession>, example = json!({"key": "taper-0123456789ab-0000"})),
    responses((status = 200, description = "Who has signed in; the cookie stands in `Set-Cookie`", body = SessionObject)),
)]
pub(crate) async fn create_session(
    State(state): State<AppState>,
    request: Request,
) -> Result<WithCookie<Json<SessionObject>>, ApiError> {
    let headers = request.headers().clone();
    let bare = request.body().is_end_stream();
    let key = match bare || auth::shows_key(&headers) {
        true => auth::key(&headers)?.to_owned(),
        false => CreateSession::read(&<JsonBody>::from_request(request, &state).await?.0)?.key,
    };
    let (word, caller) = auth::sign_in(&state, &key).await?;
    let cookie = session_cookie::set(&headers, &word, Session::SECONDS);
    Ok(([(header::SET_COOKIE, cookie)], Json(object(&caller))))
}

/// Tell who asks
///
/// The role and the project of the key that the request shows, or of the one that its session was begun with. As long as there are
/// no keys, everybody is an admin.
#[utoipa::path(
    get,
    path = "/v1/session",
    tag = "service",
    responses((status = 200, description = "Who asks", body = SessionObject)),
)]
pub(crate) async fn find_session(caller: Caller) -> Json<SessionObject> {
    Json(object(&caller))
}

/// End the session
///
/// The cookie is of no more use. A request that comes from no session ends none, and that is no error.
#[utoipa::path(
    delete,
    path = "/v1/session",
    tag = "service",
    responses((status = 204, description = "It has ended")),
)]
pub(crate) async fn delete_session(
    State(state): State<AppState>,
    headers: HeaderMap,
) -> Result<WithCookie<StatusCode>, ApiError> {
    if let Some(word) = session_cookie::session(&headers) {
        state
            .store
            .close_session(&word, state.config.token_digest())
            .await?;
        // Its streams end with it.
        state.key_changes.send_modify(|_| {});
    }
    let cookie = session_cookie::clear(&headers);
    Ok(([(header::SET_COOKIE, cookie)], StatusCode::NO_CONTENT))
}

fn object(caller: &Caller) -> SessionObject {
    SessionObject::new(caller.role, &caller.scope, caller.until)
}
