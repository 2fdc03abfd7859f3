use axum::{Json, extract::State, http::HeaderMap, response::Response};
use taper_store::{FileFilter, Order};
use utoipa::IntoParams;

use crate::{
    auth::Caller,
    download::Download,
    error::ApiError,
    extract::Path,
    once::Marks,
    query::{FromPairs, Pairs, Query},
    state::AppState,
    upload::Incoming,
    wire::{DeletedFile, FileObject, List, UploadForm},
};

/// Upload a file
///
/// The parts may come in any order. Any bytes are kept; what is wrong with them is told when a job names the file. A file that is to
/// expire stays as long as a job that has not ended names it.
#[utoipa::path(
    post,
    path = "/v1/files",
    tag = "files",
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses((status = 200, description = "The file", body = FileObject)),
)]
pub(crate) async fn create_file(
    State(state): State<AppState>,
    caller: Caller,
    Marks(once): Marks,
    incoming: Incoming,
) -> Result<Json<FileObject>, ApiError> {
    Ok(Json(
        incoming
            .keep(&state.store, caller.scope.home(), once)
            .await?
            .into(),
    ))
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct FilePage {
    /// Only files of this purpose.
    purpose: Option<String>,
    /// Id of the last element of the page before.
    after: Option<String>,
    /// Most elements of the page; 10000 unless told.
    #[param(minimum = 1, maximum = 10_000, value_type = Option<u32>)]
    limit: u32,
    /// `desc` (newest first) unless told, or `asc`.
    #[param(value_type = Option<String>)]
    order: Order,
}

impl FromPairs for FilePage {
    fn read(pairs: &mut Pairs) -> Self {
        Self {
            purpose: pairs.text("purpose"),
            after: pairs.text("after"),
            limit: pairs.limit(10_000),
            order: pairs
                .choice("order", &[("asc", Order::Asc), ("desc", Order::Desc)])
                .unwrap_or_default(),
        }
    }
}

/// List files
#[utoipa::path(
    get,
    path = "/v1/files",
    tag = "files",
    params(FilePage),
    responses((status = 200, description = "A page of files", body = List<FileObject>)),
)]
pub(crate) async fn list_files(
    State(state): State<AppState>,
    caller: Caller,
    Query(query): Query<FilePage>,
) -> Result<Json<List<FileObject>>, ApiError> {
    let filter = FileFilter {
        purpose: query.purpose,
        after: query.after,
        limit: query.limit,
        order: query.order,
    };
    let page = state.store.files(&caller.scope, &filter).await?;
    let files = page.data.into_iter().map(FileObject::from).collect();
    Ok(Json(List::page(files, page.has_more, |file| &file.id)))
}

/// Find a file
#[utoipa::path(
    get,
    path = "/v1/files/{id}",
    tag = "files",
    params(("id" = String, Path, description = "Id of the file")),
    responses((status = 200, description = "The file", body = FileObject)),
)]
pub(crate) async fn find_file(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<FileObject>, ApiError> {
    Ok(Json(state.file(&caller.scope, &id).await?.into()))
}

/// Download a file
///
/// Its bytes as they were uploaded.
#[utoipa::path(
    get,
    path = "/v1/files/{id}/content",
    tag = "files",
    params(
        ("id" = String, Path, description = "Id of the file"),
        ("Range" = Option<String>, Header, description = "One range of bytes"),
    ),
    responses(
        (status = 200, description = "The bytes", body = Vec<u8>, content_type = "*/*"),
        (status = 206, description = "The part that was asked for", body = Vec<u8>, content_type = "*/*"),
        (status = 304, description = "The client has this very file"),
    ),
)]
pub(crate) async fn download_file(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let file = state.file(&caller.scope, &id).await?;
    let download = Download {
        key: file.key(),
        name: file.filename,
        bytes: file.bytes,
        sha256: file.sha256,
    };
    download.answer(&state.store, &headers).await
}

/// Delete a file
///
/// Refused while a job that has not ended names it.
#[utoipa::path(
    delete,
    path = "/v1/files/{id}",
    tag = "files",
    params(("id" = String, Path, description = "Id of the file")),
    responses((status = 200, description = "It is gone", body = DeletedFile)),
)]
pub(crate) async fn delete_file(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<DeletedFile>, ApiError> {
    if !state.store.delete_file(&caller.scope, &id).await? {
        return Err(ApiError::no_file(&id));
    }
    Ok(Json(DeletedFile {
        id,
        object: "file",
        deleted: true,
    }))
}
