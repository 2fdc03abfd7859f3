use axum::{Json, extract::State, http::HeaderMap, response::Response};

use super::named::{Answer, Named, find_job};
use crate::{
    middleware::auth::Caller,
    state::AppState,
    wire::{ArtifactObject, List, error::ApiError, extract::Path, file_download::Download},
};

/// List a job's artifacts
///
/// What a succeeded job has made; empty before that.
#[utoipa::path(
    get,
    path = "/v1/fine_tuning/jobs/{id}/artifacts",
    tag = "fine-tuning",
    params(("id" = String, Path, description = "Id of the job")),
    responses((status = 200, description = "All artifacts", body = List<ArtifactObject>)),
)]
pub(crate) async fn list_artifacts(named: Named) -> Answer<List<ArtifactObject>> {
    let job = named.job().await?;
    Ok(Json(List::whole(named.state.store.artifacts(&job).await?)))
}

/// Download an artifact
///
/// The path is looked up in the list of artifacts.
#[utoipa::path(
    get,
    path = "/v1/fine_tuning/jobs/{id}/artifacts/{*path}",
    tag = "fine-tuning",
    params(
        ("id" = String, Path, description = "Id of the job"),
        ("path" = String, Path, description = "Path of the artifact, with slashes"),
        ("Range" = Option<String>, Header, description = "One range of bytes"),
    ),
    responses(
        (status = 200, description = "The file", body = Vec<u8>, content_type = "*/*"),
        (status = 206, description = "The part that was asked for", body = Vec<u8>, content_type = "*/*"),
        (status = 304, description = "The client has this very file"),
    ),
)]
pub(crate) async fn download_artifact(
    State(state): State<AppState>,
    caller: Caller,
    Path((id, path)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let job = find_job(&state, &caller.scope, &id).await?;
    let found = state.store.artifact(&job, &path).await?;
    let artifact = found.ok_or_else(|| ApiError::no_artifact(&id, &path))?;
    let download = Download {
        key: artifact.key(&job),
        name: base_name(&artifact.path).to_owned(),
        bytes: artifact.bytes,
        sha256: artifact.sha256,
    };
    download.answer(&state.store, &headers).await
}

fn base_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}
