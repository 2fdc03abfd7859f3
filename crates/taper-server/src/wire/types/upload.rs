use serde::Serialize;
use serde_json::Value;
use taper_core::{FieldError, Fields, Project, SpecError};
use taper_store::{ChunkedUpload, NewUpload, UploadPart, UploadState};
use utoipa::ToSchema;

use super::FileObject;
use crate::wire::{
    expires_after,
    file_upload::{check_purpose, file_name},
};

/// OpenAI's limit on a file that comes in parts.
const MAX_BYTES: i64 = 8 << 30;
const NAME_BYTES: usize = 255;
const MAX_PARTS: usize = 10_000;

/// A file that comes in parts.
#[derive(Debug, Serialize, ToSchema)]
pub struct UploadObject {
    /// `upload-…`
    pub id: String,
    /// Always `upload`.
    pub object: &'static str,
    /// Of the whole file.
    pub bytes: u64,
    /// Unix seconds.
    pub created_at: i64,
    /// When it ends by itself unless it is completed: an hour after its creation.
    pub expires_at: i64,
    pub filename: String,
    pub purpose: String,
    /// `pending`, `completed`, `cancelled` or `expired`.
    pub status: &'static str,
    /// The file, once the upload is completed.
    pub file: Option<FileObject>,
}

impl From<ChunkedUpload> for UploadObject {
    fn from(upload: ChunkedUpload) -> Self {
        Self {
            id: upload.id,
            object: "upload",
            bytes: upload.file.bytes,
            created_at: upload.created_at,
            expires_at: upload.expires_at,
            filename: upload.file.filename,
            purpose: upload.file.purpose,
            status: upload.state.as_str(),
            file: match upload.state {
                UploadState::Completed => upload.made.map(FileObject::from),
                UploadState::Pending | UploadState::Cancelled | UploadState::Expired => None,
            },
        }
    }
}

/// A piece of a file.
#[derive(Debug, Serialize, ToSchema)]
pub struct UploadPartObject {
    /// `part-…`
    pub id: String,
    /// Always `upload.part`.
    pub object: &'static str,
    /// Unix seconds.
    pub created_at: i64,
    pub upload_id: String,
}

impl From<UploadPart> for UploadPartObject {
    fn from(part: UploadPart) -> Self {
        Self {
            id: part.id,
            object: "upload.part",
            created_at: part.created_at,
            upload_id: part.upload,
        }
    }
}

/// How long a file is to live.
#[derive(Debug, ToSchema)]
pub struct ExpiresAfter {
    /// Only `created_at`.
    pub anchor: String,
    #[schema(minimum = 3600, maximum = 2_592_000)]
    pub seconds: u64,
}

/// What is said of a file before its parts are sent.
#[derive(Debug, ToSchema)]
pub struct CreateUpload {
    /// Of the whole file.
    #[schema(minimum = 1, maximum = 8_589_934_592_i64)]
    pub bytes: u64,
    #[schema(min_length = 1, max_length = 255)]
    pub filename: String,
    /// Taken and not looked at: the ending of the name tells what the file is.
    pub mime_type: String,
    /// As with `POST /v1/files`.
    pub purpose: String,
    #[schema(required = false)]
    pub expires_after: Option<ExpiresAfter>,
}

impl CreateUpload {
    /// Reads the body of a project's request.
    ///
    /// # Errors
    /// Every finding with its field.
    pub(crate) fn read(body: &Value, project: Project) -> Result<NewUpload, SpecError> {
        let object = body.as_object().ok_or_else(not_an_object)?;
        let (mut fields, mut errors) = (Fields::new("", object), Vec::new());
        let bytes = fields.integer("bytes", 1..=MAX_BYTES);
        fields.require("bytes", bytes.is_some());
        let filename = fields.string("filename");
        fields.require("filename", filename.is_some());
        if filename.is_some_and(|name| name.is_empty() || name.len() > NAME_BYTES) {
            fields.reject("filename", format_args!("takes 1 to {NAME_BYTES} bytes"));
        }
        let mime_type = fields.string("mime_type");
        fields.require("mime_type", mime_type.is_some());
        let purpose = fields.string("purpose");
        fields.require("purpose", purpose.is_some());
        let expires_after = expires_after::read(&mut fields, &mut errors);
        errors.extend(purpose.and_then(|purpose| check_purpose(purpose).err()));
        let mut found = fields.finish();
        found.append(&mut errors);
        SpecError::check(found)?;
        Ok(NewUpload {
            project,
            bytes: bytes.unwrap_or_default() as u64,
            filename: file_name(filename.unwrap_or_default()),
            purpose: purpose.unwrap_or_default().to_owned(),
            expires_after,
        })
    }
}

/// The form of a part.
#[derive(Debug, ToSchema)]
pub struct UploadPartForm {
    /// At most 64 MiB and not empty.
    #[schema(value_type = String, format = Binary)]
    pub data: Vec<u8>,
}

/// Which parts make the file, in their order.
#[derive(Debug, ToSchema)]
pub struct CompleteUpload {
    #[schema(min_items = 1, max_items = 10_000)]
    pub part_ids: Vec<String>,
    /// Of the whole file, in hex; compared when given.
    #[schema(required = false)]
    pub md5: Option<String>,
}

impl CompleteUpload {
    /// Reads the body.
    ///
    /// # Errors
    /// Every finding with its field.
    pub(crate) fn read(body: &Value) -> Result<Self, SpecError> {
        let object = body.as_object().ok_or_else(not_an_object)?;
        let mut fields = Fields::new("", object);
        let given = fields.value("part_ids");
        let list = given.and_then(Value::as_array);
        let ids = list.map(|list| list.iter().map(|id| id.as_str().map(str::to_owned)));
        let ids = ids.and_then(|ids| ids.collect::<Option<Vec<_>>>());
        let ids = ids.filter(|ids| (1..=MAX_PARTS).contains(&ids.len()));
        if given.is_some() && ids.is_none() {
            fields.reject(
                "part_ids",
                format_args!("must be a list of 1 to {MAX_PARTS} ids of parts"),
            );
        }
        fields.require("part_ids", ids.is_some());
        let md5 = fields.string("md5").map(str::to_owned);
        SpecError::check(fields.finish())?;
        Ok(Self {
            part_ids: ids.unwrap_or_default(),
            md5,
        })
    }
}

fn not_an_object() -> SpecError {
    FieldError::invalid("", "the body must be a JSON object").into()
}
