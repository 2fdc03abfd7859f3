//! What a route works on that names one thing in its path, and how the thing is found.

use axum::{Json, extract::FromRequestParts, http::request::Parts};
use taper_store::{ChunkedUpload, ExperimentRecord, FileRecord, Job, Scope};

use crate::{
    middleware::auth::Caller,
    state::AppState,
    wire::{error::ApiError, extract::Path},
};

/// An answer of JSON, or an error.
pub(crate) type Answer<T> = Result<Json<T>, ApiError>;

/// Answers with the object that shows something.
pub(super) fn answer<T: From<R>, R>(found: R) -> Answer<T> {
    Ok(Json(found.into()))
}

/// The thing that a path names by its `{id}`, and who asks for it.
pub(crate) struct Named {
    pub(super) state: AppState,
    pub(super) caller: Caller,
    pub(super) id: String,
}

impl FromRequestParts<AppState> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, state).await?;
        let Path(id) = Path::from_request_parts(parts, state).await?;
        Ok(Self {
            state: state.clone(),
            caller,
            id,
        })
    }
}

impl Named {
    pub(super) fn scope(&self) -> &Scope {
        &self.caller.scope
    }

    /// # Errors
    /// 404
    pub(super) async fn job(&self) -> Result<Job, ApiError> {
        find_job(&self.state, self.scope(), &self.id).await
    }

    /// # Errors
    /// 404
    pub(super) async fn experiment(&self) -> Result<ExperimentRecord, ApiError> {
        let found = self.state.store.experiment(self.scope(), &self.id).await?;
        found.ok_or_else(|| ApiError::no_experiment(&self.id))
    }

    /// # Errors
    /// 404
    pub(super) async fn upload(&self) -> Result<ChunkedUpload, ApiError> {
        let found = self.state.store.upload(self.scope(), &self.id).await?;
        found.ok_or_else(|| ApiError::no_upload(&self.id))
    }

    /// # Errors
    /// 404
    pub(super) async fn file(&self) -> Result<FileRecord, ApiError> {
        let found = self.state.store.file(self.scope(), &self.id).await?;
        found.ok_or_else(|| ApiError::no_file(&self.id))
    }
}

/// Finds the job of a path that names something of it as well.
///
/// # Errors
/// 404
pub(super) async fn find_job(state: &AppState, scope: &Scope, id: &str) -> Result<Job, ApiError> {
    let found = state.store.job(scope, id).await?;
    found.ok_or_else(|| ApiError::no_job(id))
}
