use axum::{Json, extract::State, http::HeaderMap, response::Response};
use taper_store::{FileFilter, Order};
use utoipa::IntoParams;

use super::{
    create::Create,
    named::{Answer, Named, answer},
};
use crate::{
    middleware::auth::Caller,
    state::AppState,
    wire::{
        DeletedFile, FileObject, List, UploadForm,
        error::ApiError,
        file_download::Download,
        file_upload::MultipartUpload,
        paging::Paged,
        query::{FromPairs, Pairs, Query},
    },
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
    new: Create<MultipartUpload>,
) -> Answer<FileObject> {
    let project = new.project();
    answer(new.body.store_file(&state.store, project, new.once).await?)
}

/// Which files are wanted.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct FileQuery {
    /// Only files of this purpose.
    purpose: Option<String>,
    /// `desc` (newest first) unless told, or `asc`.
    #[param(value_type = Option<String>)]
    order: Order,
}

impl FromPairs for FileQuery {
    fn read(pairs: &mut Pairs) -> Self {
        let orders = [("asc", Order::Asc), ("desc", Order::Desc)];
        Self {
            purpose: pairs.text("purpose"),
            order: pairs.choice("order", &orders).unwrap_or_default(),
        }
    }
}

/// List files
#[utoipa::path(
    get,
    path = "/v1/files",
    tag = "files",
    params(Paged<10_000>, FileQuery),
    responses((status = 200, description = "A page of files", body = List<FileObject>)),
)]
pub(crate) async fn list_files(
    State(state): State<AppState>,
    caller: Caller,
    Query(query): Query<Paged<10_000, FileQuery>>,
) -> Answer<List<FileObject>> {
    let filter = FileFilter {
        purpose: query.filter.purpose,
        after: query.after,
        limit: query.limit,
        order: query.filter.order,
    };
    let page = state.store.files(&caller.scope, &filter).await?;
    Ok(Json(List::page(page, FileObject::from, |file| &file.id)))
}

/// Find a file
#[utoipa::path(
    get,
    path = "/v1/files/{id}",
    tag = "files",
    params(("id" = String, Path, description = "Id of the file")),
    responses((status = 200, description = "The file", body = FileObject)),
)]
pub(crate) async fn find_file(file: Named) -> Answer<FileObject> {
    answer(file.file().await?)
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
pub(crate) async fn download_file(named: Named, headers: HeaderMap) -> Result<Response, ApiError> {
    let file = named.file().await?;
    let download = Download {
        key: file.key(),
        name: file.filename,
        bytes: file.bytes,
        sha256: file.sha256,
    };
    download.answer(&named.state.store, &headers).await
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
pub(crate) async fn delete_file(file: Named) -> Answer<DeletedFile> {
    let store = &file.state.store;
    if !store.delete_file(file.scope(), &file.id).await? {
        return Err(ApiError::no_file(&file.id));
    }
    Ok(Json(DeletedFile {
        id: file.id,
        object: "file",
        deleted: true,
    }))
}
