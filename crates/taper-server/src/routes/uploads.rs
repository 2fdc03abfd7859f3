use axum::extract::State;

use super::{
    create::Create,
    named::{Answer, Named, answer},
};
use crate::{
    state::AppState,
    wire::{
        CompleteUpload, CreateUpload, UploadObject, UploadPartForm, UploadPartObject,
        extract::JsonBody, file_upload::MultipartUpload,
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
    new: Create<JsonBody>,
) -> Answer<UploadObject> {
    let upload = CreateUpload::read(&new.body.0, new.project())?;
    answer(state.store.create_upload(upload, Some(new.once)).await?)
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
    named: Named,
    new: Create<MultipartUpload>,
) -> Answer<UploadPartObject> {
    let upload = named.upload().await?;
    let store = &named.state.store;
    answer(new.body.store_part(store, &upload, new.once).await?)
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
    named: Named,
    JsonBody(body): JsonBody,
) -> Answer<UploadObject> {
    let upload = named.upload().await?;
    let CompleteUpload { part_ids, md5 } = CompleteUpload::read(&body)?;
    let store = &named.state.store;
    answer(
        store
            .complete_upload(upload, part_ids, md5.as_deref())
            .await?,
    )
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
pub(crate) async fn cancel_upload(named: Named) -> Answer<UploadObject> {
    let upload = named.upload().await?;
    answer(named.state.store.cancel_upload(&upload).await?)
}
