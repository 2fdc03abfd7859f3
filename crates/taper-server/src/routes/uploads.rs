use axum::{Json, extract::State};

use crate::{
    middleware::{auth::Caller, idempotency::Marks},
    state::AppState,
    wire::{
        CompleteUpload, CreateUpload, UploadObject, UploadPartForm, UploadPartObject,
        error::ApiError,
        extract::{JsonBody, Path},
        file_upload::Incoming,
    },
};

/// Begin an upload in parts
///
/// For files that are too large for one request. An upload that is not completed within an hour expires.
#[utoipa::path(
    post,
    path = "/v1/uploads",
    tag = "uploads",
    request_body(content = CreateUpload, example = json!({
        "bytes": 1_000_000, "filename": "train.jsonl", "mime_type": "text/jsonl", "purpose": "fine-tune",
    })),
    responses((status = 200, description = "The upload", body = UploadObject)),
)]
pub(crate) async fn create_upload(
    State(state): State<AppState>,
    caller: Caller,
    Marks(once): Marks,
    JsonBody(body): JsonBody,
) -> Result<Json<UploadObject>, ApiError> {
    let once = once.asking(&[&body.to_string()]);
    let new = CreateUpload::read(&body, caller.scope.home())?;
    let upload = state.store.create_upload(new, Some(once)).await?;
    Ok(Json(upload.into()))
}

/// Add a part to an upload
///
/// Parts may be sent side by side; their order is told at the end.
#[utoipa::path(
    post,
    path = "/v1/uploads/{id}/parts",
    tag = "uploads",
    params(("id" = String, Path, description = "Id of the upload")),
    request_body(content = UploadPartForm, content_type = "multipart/form-data"),
    responses((status = 200, description = "The part", body = UploadPartObject)),
)]
pub(crate) async fn add_upload_part(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    Marks(once): Marks,
    incoming: Incoming,
) -> Result<Json<UploadPartObject>, ApiError> {
    let upload = state.upload(&caller.scope, &id).await?;
    let part = incoming.keep_part(&state.store, &upload, once).await?;
    Ok(Json(part.into()))
}

/// Complete an upload
///
/// Puts the parts together; the answer holds the file. To complete it again with the same parts is no error.
#[utoipa::path(
    post,
    path = "/v1/uploads/{id}/complete",
    tag = "uploads",
    params(("id" = String, Path, description = "Id of the upload")),
    request_body(content = CompleteUpload, example = json!({"part_ids": ["part-019abc", "part-019abd"]})),
    responses((status = 200, description = "The upload", body = UploadObject)),
)]
pub(crate) async fn complete_upload(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    JsonBody(body): JsonBody,
) -> Result<Json<UploadObject>, ApiError> {
    let upload = state.upload(&caller.scope, &id).await?;
    let CompleteUpload { part_ids, md5 } = CompleteUpload::read(&body)?;
    let completed = state
        .store
        .complete_upload(upload, part_ids, md5.as_deref());
    Ok(Json(completed.await?.into()))
}

/// Cancel an upload
///
/// Its parts are forgotten. Cancelling a cancelled upload is no error.
#[utoipa::path(
    post,
    path = "/v1/uploads/{id}/cancel",
    tag = "uploads",
    params(("id" = String, Path, description = "Id of the upload")),
    responses((status = 200, description = "The upload", body = UploadObject)),
)]
pub(crate) async fn cancel_upload(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<UploadObject>, ApiError> {
    let upload = state.upload(&caller.scope, &id).await?;
    Ok(Json(state.store.cancel_upload(&upload).await?.into()))
}
