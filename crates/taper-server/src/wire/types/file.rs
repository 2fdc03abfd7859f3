use serde::Serialize;
use taper_store::FileRecord;
use utoipa::ToSchema;

/// An uploaded file, or one that a job has made.
#[derive(Debug, Serialize, ToSchema)]
pub struct FileObject {
    /// `file-…`
    pub id: String,
    /// Always `file`.
    pub object: &'static str,
    pub bytes: u64,
    /// Unix seconds.
    pub created_at: i64,
    /// The name that was given with the upload, without folders.
    pub filename: String,
    /// `fine-tune` for data of jobs, `fine-tune-results` for what jobs have made, or another purpose of OpenAI's.
    pub purpose: String,
    /// Always `processed`: a file is listed once it is whole.
    pub status: &'static str,
    /// When it goes by itself; absent = never, as OpenAI's schema has no null here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// Hex; this field is taper's.
    pub sha256: String,
}

impl From<FileRecord> for FileObject {
    fn from(file: FileRecord) -> Self {
        Self {
            id: file.id,
            object: "file",
            bytes: file.bytes,
            created_at: file.created_at,
            filename: file.filename,
            purpose: file.purpose,
            status: "processed",
            expires_at: file.expires_at,
            sha256: file.sha256,
        }
    }
}

/// The answer to the deletion of a file.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeletedFile {
    pub id: String,
    /// Always `file`.
    pub object: &'static str,
    /// Always true.
    pub deleted: bool,
}

/// The parts of an upload, in any order.
#[derive(Debug, ToSchema)]
pub struct UploadForm {
    /// What the file is for: `fine-tune` for data of jobs; `assistants`, `batch`, `vision`, `user_data` and `evals` are kept as well.
    pub purpose: String,
    /// The file itself, at most 512 MiB and not empty. JSONL, or CSV with a header; the ending of its name tells which.
    #[schema(value_type = String, format = Binary)]
    pub file: Vec<u8>,
    /// Only `created_at`; with the next field.
    #[schema(required = false, rename = "expires_after[anchor]")]
    pub expires_after_anchor: Option<String>,
    /// Seconds that the file is to live; absent = for ever.
    #[schema(
        required = false,
        rename = "expires_after[seconds]",
        minimum = 3600,
        maximum = 2_592_000
    )]
    pub expires_after_seconds: Option<u64>,
}
