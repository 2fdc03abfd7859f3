use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use taper_core::Project;

use super::state::UploadState;
use crate::{
    FileRecord, StoreError, files,
    ground::{from_json, now},
    scope::project_of,
};

/// What a client says of a file before it sends the parts.
#[derive(Debug, Clone)]
pub struct NewUpload {
    pub project: Project,
    /// Of the whole file.
    pub bytes: u64,
    pub filename: String,
    pub purpose: String,
    /// Seconds that the file is to live.
    pub expires_after: Option<u64>,
}

/// A file on its way in, part by part.
#[derive(Debug, Clone)]
pub struct ChunkedUpload {
    pub(super) row: i64,
    /// `upload-…`
    pub id: String,
    /// Unix seconds, as all times here.
    pub created_at: i64,
    /// When it ends by itself unless it is completed.
    pub expires_at: i64,
    pub state: UploadState,
    pub file: NewUpload,
    /// Once completed: the file, unless it has been deleted since.
    pub made: Option<FileRecord>,
    /// Once completed: what the file was put together from.
    pub(super) parts: Vec<String>,
}

/// A piece of a file.
#[derive(Debug, Clone)]
pub struct UploadPart {
    /// `part-…`
    pub id: String,
    pub upload: String,
    pub created_at: i64,
    pub bytes: u64,
}

impl ChunkedUpload {
    pub(super) fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        let id: String = row.try_get("id")?;
        let parts: Option<String> = row.try_get("parts")?;
        let parts = parts.map(|text| from_json(|| format!("upload {id}"), &text));
        Ok(Self {
            row: row.try_get("row")?,
            created_at: row.try_get("created_at")?,
            expires_at: row.try_get("expires_at")?,
            state: UploadState::parse(row.try_get("state")?),
            file: NewUpload {
                project: project_of(row)?,
                bytes: row.try_get::<i64, _>("bytes")? as u64,
                filename: row.try_get("filename")?,
                purpose: row.try_get("purpose")?,
                expires_after: row
                    .try_get::<Option<i64>, _>("expires_after")?
                    .map(|seconds| seconds as u64),
            },
            made: None,
            parts: parts.transpose()?.unwrap_or_default(),
            id,
        })
    }

    fn closed(&self) -> StoreError {
        StoreError::UploadClosed {
            id: self.id.clone(),
            state: self.state,
        }
    }

    pub(super) fn require_open(&self) -> Result<(), StoreError> {
        match self.state {
            UploadState::Pending if self.expires_at > now() => Ok(()),
            UploadState::Pending => Err(StoreError::UploadClosed {
                id: self.id.clone(),
                state: UploadState::Expired,
            }),
            _ => Err(self.closed()),
        }
    }
}

pub(super) async fn find(
    connection: &mut SqliteConnection,
    id: &str,
) -> Result<Option<ChunkedUpload>, StoreError> {
    let row = sqlx::query("select * from uploads where id = ?")
        .bind(id)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let mut upload = ChunkedUpload::read(&row)?;
    if let Some(file) = row.try_get::<Option<String>, _>("file")? {
        upload.made = files::find(connection, &file).await?;
    }
    Ok(Some(upload))
}
