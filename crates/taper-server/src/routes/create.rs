//! What every route does first that makes something: a request that comes twice makes it once.

use axum::extract::{FromRequest, FromRequestParts, Request};
use taper_core::Project;
use taper_store::Once;

use crate::{
    middleware::{auth::Caller, idempotency::Idempotency},
    state::AppState,
    wire::{error::ApiError, extract::JsonBody, file_upload::MultipartUpload},
};

/// A request to make something.
pub(crate) struct Create<B> {
    pub(super) caller: Caller,
    pub(super) body: B,
    /// By what the request is known again.
    pub(super) once: Once,
}

/// A body that tells what is asked for.
pub(crate) trait Asks {
    /// Notes what is asked for.
    fn note(&self, once: Once) -> Once;
}

impl<const LIMIT: usize> Asks for JsonBody<LIMIT> {
    fn note(&self, once: Once) -> Once {
        once.asking(&[&self.0.to_string()])
    }
}

impl Asks for MultipartUpload {
    /// What the bytes are is known once they have come: the store notes it then.
    fn note(&self, once: Once) -> Once {
        once
    }
}

impl<B: Asks + FromRequest<AppState, Rejection = ApiError>> FromRequest<AppState> for Create<B> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let caller = Caller::from_request_parts(&mut parts, state).await?;
        let Idempotency(once) = Idempotency::from_request_parts(&mut parts, state).await?;
        let body = B::from_request(Request::from_parts(parts, body), state).await?;
        Ok(Self {
            caller,
            once: body.note(once),
            body,
        })
    }
}

impl<B> Create<B> {
    /// The project that what is made will be in.
    pub(super) fn project(&self) -> Project {
        self.caller.scope.home()
    }

    /// Finds what the same request has made before; `find` looks it up by its id.
    pub(super) async fn made_before<T>(
        &self,
        state: &AppState,
        find: impl AsyncFnOnce(String) -> Result<Option<T>, ApiError>,
    ) -> Result<Option<T>, ApiError> {
        match state.store.made_before(&self.once).await? {
            Some(id) => find(id).await,
            None => Ok(None),
        }
    }
}
