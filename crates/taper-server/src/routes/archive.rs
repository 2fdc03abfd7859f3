use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use taper_store::Job;

use crate::{
    archive::{Entry, zip},
    auth::Caller,
    download::attachment,
    error::ApiError,
    extract::Path,
    state::{AppState, wrong_state},
};

/// Where an adapter lies in a job's output.
const ADAPTER: &str = "adapter/";
/// Where a whole model lies.
const MODEL: &str = "model/";

/// Download the adapter
///
/// One zip with the adapter's files at its root, ready to be loaded after unpacking. Of a job that makes a whole model it is the same as
/// `model.zip`.
#[utoipa::path(
    get,
    path = "/v1/fine_tuning/jobs/{id}/adapter.zip",
    tag = "fine-tuning",
    params(("id" = String, Path, description = "Id of the job")),
    responses((status = 200, description = "The zip", body = Vec<u8>, content_type = "application/zip")),
)]
pub(crate) async fn download_archive(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let job = state.job(&caller.scope, &id).await?;
    archive(&state, &job, &[ADAPTER, MODEL], "adapter").await
}

/// Download the model
///
/// One zip with the files of a whole model at its root, ready to be loaded after unpacking; only of a job whose method makes one.
#[utoipa::path(
    get,
    path = "/v1/fine_tuning/jobs/{id}/model.zip",
    tag = "fine-tuning",
    params(("id" = String, Path, description = "Id of the job")),
    responses((status = 200, description = "The zip", body = Vec<u8>, content_type = "application/zip")),
)]
pub(crate) async fn download_model(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let job = state.job(&caller.scope, &id).await?;
    if job.spec.tuning.method.is_adapter() {
        let message = format!(
            "job {id} makes an adapter and not a whole model; download its adapter.zip instead"
        );
        return Err(ApiError::bad_request(message).coded("invalid_state"));
    }
    archive(&state, &job, &[MODEL], "model").await
}

/// A zip of what lies in some folders of a job's output; `what` is what people call it.
async fn archive(
    state: &AppState,
    job: &Job,
    folders: &[&str],
    what: &str,
) -> Result<Response, ApiError> {
    let id = &job.id;
    let entries = entries(state, job, folders).await?;
    if entries.is_empty() {
        let wish = format!("its {what} can be downloaded once it has succeeded");
        return Err(wrong_state(id, job.state, &wish));
    }
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/zip"),
        ),
        (
            header::CONTENT_DISPOSITION,
            attachment(&format!("{id}.zip")),
        ),
    ];
    Ok((headers, zip(entries)).into_response())
}

async fn entries(state: &AppState, job: &Job, folders: &[&str]) -> Result<Vec<Entry>, ApiError> {
    let mut entries = Vec::new();
    for artifact in state.store.artifacts(job).await? {
        let name = folders
            .iter()
            .find_map(|folder| artifact.path.strip_prefix(folder));
        let Some(name) = name else { continue };
        let found = state.store.artifact(job, &artifact.path).await?;
        let (_, path) = found.ok_or_else(|| ApiError::no_artifact(&job.id, &artifact.path))?;
        entries.push(Entry {
            name: name.to_owned(),
            path,
            bytes: artifact.bytes,
        });
    }
    Ok(entries)
}
