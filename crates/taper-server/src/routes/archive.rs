use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use taper_core::ErrorCode;
use taper_store::Job;

use super::named::Named;
use crate::{
    state::AppState,
    wire::{
        error::ApiError,
        file_download::attachment,
        zip_stream::{Entry, zip},
    },
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
pub(crate) async fn download_archive(named: Named) -> Result<Response, ApiError> {
    let job = named.job().await?;
    let what = if job.spec.tuning.method.is_adapter() {
        "adapter"
    } else {
        "model"
    };
    archive(&named.state, &job, &[ADAPTER, MODEL], what).await
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
pub(crate) async fn download_model(named: Named) -> Result<Response, ApiError> {
    let job = named.job().await?;
    if job.spec.tuning.method.is_adapter() {
        let message = format!(
            "job {} makes an adapter and not a whole model; download its adapter.zip instead",
            job.id
        );
        return Err(ApiError::bad_request(message).coded(ErrorCode::InvalidState));
    }
    archive(&named.state, &job, &[MODEL], "model").await
}

/// A zip of what lies in some folders of a job's output; `what` is what people call it.
async fn archive(
    state: &AppState,
    job: &Job,
    folders: &[&str],
    what: &str,
) -> Result<Response, ApiError> {
    let entries = entries(state, job, folders).await?;
    if entries.is_empty() {
        let message = format!(
            "job {} is {}; its {what} can be downloaded once it has succeeded",
            job.id, job.state
        );
        return Err(ApiError::bad_request(message).coded(ErrorCode::InvalidState));
    }
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/zip"),
        ),
        (
            header::CONTENT_DISPOSITION,
            attachment(&format!("{}.zip", job.id)),
        ),
    ];
    Ok((headers, zip(state.store.clone(), entries)).into_response())
}

async fn entries(state: &AppState, job: &Job, folders: &[&str]) -> Result<Vec<Entry>, ApiError> {
    let mut entries = Vec::new();
    for artifact in state.store.artifacts(job).await? {
        let name = folders
            .iter()
            .find_map(|folder| artifact.path.strip_prefix(folder));
        let Some(name) = name else { continue };
        entries.push(Entry {
            name: name.to_owned(),
            key: artifact.key(job),
            bytes: artifact.bytes,
        });
    }
    Ok(entries)
}
