//! Files that come in several requests: OpenAI's uploads. Parts lie beside the files until they are put together.

mod rows;

use std::fmt;

use md5::{Digest, Md5};
use sqlx::{Row, sqlite::SqliteRow};
use taper_core::Project;
use tokio::{fs::File, io::AsyncReadExt};

use self::rows::find;
use crate::{
    FileRecord, NewFile, Once, Scope, Store, StoreError, Upload,
    jobs::from_json,
    scope::project_of,
    store::{new_id, now},
    writer::Command,
};

/// Bytes copied at a time.
const CHUNK: usize = 1 << 16;

/// How far an upload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadState {
    Pending,
    Completed,
    Cancelled,
    Expired,
}

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
    row: i64,
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
    parts: Vec<String>,
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

/// A file that has been put together.
pub(crate) struct Completion {
    upload: String,
    parts: Vec<String>,
    file: FileRecord,
}

impl UploadState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    fn parse(word: &str) -> Self {
        let all = [Self::Completed, Self::Cancelled, Self::Expired];
        let found = all.into_iter().find(|state| state.as_str() == word);
        found.unwrap_or(Self::Pending)
    }
}

impl fmt::Display for UploadState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ChunkedUpload {
    fn read(row: &SqliteRow) -> Result<Self, StoreError> {
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

    fn require_open(&self) -> Result<(), StoreError> {
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

impl Store {
    /// Begins an upload. A request that has begun one before gets that one.
    ///
    /// # Errors
    /// [`StoreError::KeyReused`]; [`StoreError::NoSpace`].
    pub async fn create_upload(
        &self,
        new: NewUpload,
        once: Option<Once>,
    ) -> Result<ChunkedUpload, StoreError> {
        self.require_space()?;
        self.write(|reply| Command::CreateUpload(new, once, reply))
            .await
    }

    /// Finds an upload by its id.
    pub async fn upload(
        &self,
        scope: &Scope,
        id: &str,
    ) -> Result<Option<ChunkedUpload>, StoreError> {
        let found = find(&mut *self.reader().await?, id).await?;
        Ok(found.filter(|upload| scope.holds(&upload.file.project)))
    }

    /// Begins to take in a part.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`], here and while bytes come.
    pub async fn begin_part(&self) -> Result<Upload, StoreError> {
        self.begin(new_id("part")).await
    }

    /// Puts the parts together in the order given. To complete an upload again in the same way is no error.
    ///
    /// # Errors
    /// Parts that are not the upload's, or are not the whole file; an MD5 sum (hex) that is not theirs; an upload that has ended.
    pub async fn complete_upload(
        &self,
        upload: ChunkedUpload,
        parts: Vec<String>,
        md5: Option<&str>,
    ) -> Result<ChunkedUpload, StoreError> {
        if upload.state == UploadState::Completed && upload.parts == parts {
            return Ok(upload);
        }
        upload.require_open()?;
        self.check_parts(&upload, &parts).await?;
        let (whole, sum) = self.concatenate(&parts).await?;
        if let Some(declared) = md5
            && !declared.eq_ignore_ascii_case(&sum)
        {
            return Err(StoreError::WrongSum {
                declared: declared.to_owned(),
                found: sum,
            });
        }
        // A task of its own, as in `Upload::finish`.
        let task = tokio::spawn(complete(whole, upload, parts));
        task.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Ends an upload and forgets its parts. To cancel a cancelled one is no error.
    ///
    /// # Errors
    /// [`StoreError::UploadClosed`] when it has ended otherwise.
    pub async fn cancel_upload(&self, upload: &ChunkedUpload) -> Result<ChunkedUpload, StoreError> {
        let id = upload.id.clone();
        let (upload, parts) = self.write(|reply| Command::CancelUpload(id, reply)).await?;
        self.remove_files(&parts).await;
        Ok(upload)
    }

    async fn check_parts(
        &self,
        upload: &ChunkedUpload,
        parts: &[String],
    ) -> Result<(), StoreError> {
        let rows = sqlx::query("select id, bytes from upload_parts where upload = ?")
            .bind(upload.row)
            .fetch_all(&mut *self.reader().await?)
            .await?;
        let mut known = std::collections::HashMap::new();
        for row in rows {
            let id: String = row.try_get("id")?;
            known.insert(id, row.try_get::<i64, _>("bytes")? as u64);
        }
        let mut found = 0;
        for part in parts {
            found += known
                .remove(part)
                .ok_or_else(|| StoreError::UnknownPart(part.clone()))?;
        }
        if found == upload.file.bytes {
            return Ok(());
        }
        Err(StoreError::UploadIncomplete {
            declared: upload.file.bytes,
            found,
        })
    }

    /// Copies parts into one file, and tells its MD5 sum in hex.
    async fn concatenate(&self, parts: &[String]) -> Result<(Upload, String), StoreError> {
        let mut whole = self.begin_upload().await?;
        let mut sum = Md5::new();
        let mut chunk = vec![0; CHUNK];
        let cannot = || StoreError::io("cannot read a part of an upload");
        for part in parts {
            let path = self.layout().file(part);
            let mut file = File::open(path).await.map_err(cannot())?;
            loop {
                match file.read(&mut chunk).await.map_err(cannot())? {
                    0 => break,
                    n => {
                        sum.update(&chunk[..n]);
                        whole.write(&chunk[..n]).await?;
                    }
                }
            }
        }
        Ok((whole, format!("{:x}", sum.finalize())))
    }
}

impl Upload {
    /// Makes the bytes durable and known as a part of an upload. A request that has brought it before gets the part of that time.
    ///
    /// # Errors
    /// An upload that has ended, or that the part would make longer than was said.
    pub async fn finish_part(
        self,
        upload: &ChunkedUpload,
        once: Option<Once>,
    ) -> Result<UploadPart, StoreError> {
        let task = tokio::spawn(publish_part(self, upload.id.clone(), once));
        task.await.unwrap_or(Err(StoreError::Closed))
    }
}

async fn publish_part(
    mut bytes: Upload,
    upload: String,
    once: Option<Once>,
) -> Result<UploadPart, StoreError> {
    bytes.settle().await?;
    let once = once.map(|once| once.asking(&[&upload, &bytes.sha256()]));
    let part = UploadPart {
        id: bytes.id().to_owned(),
        upload,
        created_at: now(),
        bytes: bytes.bytes(),
    };
    let store = bytes.store().clone();
    let known = store
        .write(|reply| Command::AddPart(part, once, reply))
        .await?;
    if known.id == bytes.id() {
        bytes.keep();
    }
    Ok(known)
}

async fn complete(
    mut whole: Upload,
    upload: ChunkedUpload,
    parts: Vec<String>,
) -> Result<ChunkedUpload, StoreError> {
    whole.settle().await?;
    let new = NewFile {
        project: upload.file.project,
        filename: upload.file.filename,
        purpose: upload.file.purpose,
        expires_after: upload.file.expires_after,
        once: None,
    };
    let store = whole.store().clone();
    let file = whole.record(&new);
    let completion = Completion {
        upload: upload.id,
        parts: parts.clone(),
        file,
    };
    let (upload, leftovers) = store
        .write(|reply| Command::CompleteUpload(completion, reply))
        .await?;
    if upload
        .made
        .as_ref()
        .is_some_and(|file| file.id == whole.id())
    {
        whole.keep();
    }
    store.remove_files(&leftovers).await;
    Ok(upload)
}
