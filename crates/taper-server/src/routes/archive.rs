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

/// The folders of a job's output that hold something to be loaded; a job fills one of them.
const FOLDERS: [&str; 2] = ["adapter/", "model/"];

/// Download the adapter or the model
///
/// One zip: the adapter's files (LoRA) or the model's (full fine-tuning) at its root, ready to be loaded after unpacking.
#[utoipa::path(
    get,
    path = "/v1/fine_tuning/jobs/{id}/adapter.zip",
    tag = "fine-tuning",
    params(("id" = String, Path, description = "Id of the job")),
    responses((status = 200, description = "The zip", body = Vec<u8>, content_type = "application/zip")),
)]
pub(crate) async fn download_archive(named: Named) -> Result<Response, ApiError> {
    let job = named.job().await?;
    let entries = entries(&named.state, &job).await?;
    if entries.is_empty() {
        let message = format!(
            "job {} is {}; its adapter can be downloaded once it has succeeded",
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
    Ok((headers, zip(state.store, entries)).into_response())
}

async fn entries(state: &AppState, job: &Job) -> Result<Vec<Entry>, ApiError> {
    let mut entries = Vec::new();
    for artifact in state.store.artifacts(job).await? {
        let name = FOLDERS
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
