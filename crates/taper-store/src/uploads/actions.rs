use std::collections::HashMap;

use md5::{Digest, Md5};
use sqlx::Row;
use tokio::io::AsyncReadExt;

use super::{
    state::UploadState,
    upload::{ChunkedUpload, NewUpload, UploadPart, find},
};
use crate::{
    FileRecord, NewFile, ObjectKey, Once, Scope, Store, StoreError, Upload,
    ground::{new_id, now, to_json},
    incoming::CHUNK,
    writer::Tx,
};

/// How long an upload waits for its parts.
const LIFETIME_SECONDS: i64 = 60 * 60;

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
        self.write(|tx| Box::pin(tx.create_upload(new, once))).await
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
        let task = tokio::spawn(complete(self.clone(), whole, upload, parts));
        task.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Ends an upload and forgets its parts. To cancel a cancelled one is no error.
    ///
    /// # Errors
    /// [`StoreError::UploadClosed`] when it has ended otherwise.
    pub async fn cancel_upload(&self, upload: &ChunkedUpload) -> Result<ChunkedUpload, StoreError> {
        let id = upload.id.clone();
        let (upload, parts) = self.write(|tx| Box::pin(tx.cancel_upload(id))).await?;
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
        let mut known = HashMap::new();
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
            let part = self
                .objects()
                .open(&ObjectKey::file(part), 0..u64::MAX)
                .await;
            let mut reader = part.map_err(cannot())?.reader;
            loop {
                match reader.read(&mut chunk).await.map_err(cannot())? {
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
    bytes: Upload,
    upload: String,
    once: Option<Once>,
) -> Result<UploadPart, StoreError> {
    let bytes = bytes.put().await?;
    let once = once.map(|once| once.asking(&[&upload, &bytes.sha256]));
    let part = UploadPart {
        id: bytes.id.clone(),
        upload,
        created_at: now(),
        bytes: bytes.bytes,
    };
    bytes
        .list(
            |tx| Box::pin(tx.add_part(part, once)),
            |known| Some(&known.id),
        )
        .await
}

async fn complete(
    store: Store,
    whole: Upload,
    upload: ChunkedUpload,
    parts: Vec<String>,
) -> Result<ChunkedUpload, StoreError> {
    let whole = whole.put().await?;
    let file = whole.record(&NewFile {
        project: upload.file.project,
        filename: upload.file.filename,
        purpose: upload.file.purpose,
        expires_after: upload.file.expires_after,
        once: None,
    });
    let completed = whole.list(
        |tx| Box::pin(tx.complete(upload.id, parts, file)),
        |(upload, _)| upload.made.as_ref().map(|file| &file.id),
    );
    let (upload, leftovers) = completed.await?;
    store.remove_files(&leftovers).await;
    Ok(upload)
}

impl Tx {
    async fn create_upload(
        &mut self,
        new: NewUpload,
        once: Option<Once>,
    ) -> Result<ChunkedUpload, StoreError> {
        if let Some(id) = self.made_before(once.as_ref()).await?
            && let Some(upload) = find(&mut self.connection, &id).await?
        {
            return Ok(upload);
        }
        let (id, created_at) = (new_id("upload"), now());
        let row = sqlx::query(
            "insert into uploads (id, project, created_at, expires_at, state, bytes, filename, purpose, expires_after)
             values (?, ?, ?, ?, 'pending', ?, ?, ?, ?) returning *",
        )
        .bind(&id)
        .bind(new.project.as_str())
        .bind(created_at)
        .bind(created_at + LIFETIME_SECONDS)
        .bind(new.bytes as i64)
        .bind(&new.filename)
        .bind(&new.purpose)
        .bind(new.expires_after.map(|seconds| seconds as i64))
        .fetch_one(&mut self.connection)
        .await?;
        self.remember(once.as_ref(), &id).await?;
        ChunkedUpload::read(&row)
    }

    async fn add_part(
        &mut self,
        part: UploadPart,
        once: Option<Once>,
    ) -> Result<UploadPart, StoreError> {
        if let Some(id) = self.made_before(once.as_ref()).await?
            && let Some(known) = self.part(&id).await?
        {
            return Ok(UploadPart {
                upload: part.upload,
                ..known
            });
        }
        let upload = self.open_upload(&part.upload).await?;
        let before: i64 =
            sqlx::query_scalar("select coalesce(sum(bytes), 0) from upload_parts where upload = ?")
                .bind(upload.row)
                .fetch_one(&mut self.connection)
                .await?;
        let found = before as u64 + part.bytes;
        if found > upload.file.bytes {
            return Err(StoreError::UploadTooLong {
                id: part.upload,
                declared: upload.file.bytes,
                found,
            });
        }
        sqlx::query("insert into upload_parts (id, upload, created_at, bytes) values (?, ?, ?, ?)")
            .bind(&part.id)
            .bind(upload.row)
            .bind(part.created_at)
            .bind(part.bytes as i64)
            .execute(&mut self.connection)
            .await?;
        self.remember(once.as_ref(), &part.id).await?;
        Ok(part)
    }

    /// Makes the file of an upload known, and tells which parts are no longer needed.
    async fn complete(
        &mut self,
        id: String,
        parts: Vec<String>,
        file: FileRecord,
    ) -> Result<(ChunkedUpload, Vec<String>), StoreError> {
        let Some(upload) = find(&mut self.connection, &id).await? else {
            return Err(StoreError::UploadClosed {
                id,
                state: UploadState::Expired,
            });
        };
        // Another request may have completed it meanwhile.
        if upload.state == UploadState::Completed && upload.parts == parts {
            return Ok((upload, Vec::new()));
        }
        upload.require_open()?;
        let file = self.add_file(file, None).await?;
        sqlx::query("update uploads set state = 'completed', file = ?, parts = ? where row = ?")
            .bind(&file.id)
            .bind(to_json(&parts))
            .bind(upload.row)
            .execute(&mut self.connection)
            .await?;
        let leftovers = self.drop_parts(upload.row).await?;
        let upload = ChunkedUpload {
            state: UploadState::Completed,
            made: Some(file),
            parts,
            ..upload
        };
        Ok((upload, leftovers))
    }

    async fn cancel_upload(
        &mut self,
        id: String,
    ) -> Result<(ChunkedUpload, Vec<String>), StoreError> {
        let upload = find(&mut self.connection, &id).await?;
        if let Some(upload) = upload.filter(|upload| upload.state == UploadState::Cancelled) {
            return Ok((upload, Vec::new()));
        }
        let upload = self.open_upload(&id).await?;
        let parts = self.end_upload(upload.row, UploadState::Cancelled).await?;
        let upload = ChunkedUpload {
            state: UploadState::Cancelled,
            ..upload
        };
        Ok((upload, parts))
    }

    /// Ends an upload without a file, and tells which parts it had.
    pub(crate) async fn end_upload(
        &mut self,
        row: i64,
        state: UploadState,
    ) -> Result<Vec<String>, StoreError> {
        sqlx::query("update uploads set state = ? where row = ?")
            .bind(state.as_str())
            .bind(row)
            .execute(&mut self.connection)
            .await?;
        self.drop_parts(row).await
    }

    async fn open_upload(&mut self, id: &str) -> Result<ChunkedUpload, StoreError> {
        let upload = find(&mut self.connection, id).await?;
        let upload = upload.ok_or_else(|| StoreError::UploadClosed {
            id: id.to_owned(),
            state: UploadState::Expired,
        })?;
        upload.require_open()?;
        Ok(upload)
    }

    async fn part(&mut self, id: &str) -> Result<Option<UploadPart>, StoreError> {
        let row = sqlx::query("select * from upload_parts where id = ?")
            .bind(id)
            .fetch_optional(&mut self.connection)
            .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(UploadPart {
            id: row.try_get("id")?,
            upload: String::new(),
            created_at: row.try_get("created_at")?,
            bytes: row.try_get::<i64, _>("bytes")? as u64,
        }))
    }

    async fn drop_parts(&mut self, upload: i64) -> Result<Vec<String>, StoreError> {
        let ids = sqlx::query_scalar("delete from upload_parts where upload = ? returning id")
            .bind(upload)
            .fetch_all(&mut self.connection)
            .await?;
        Ok(ids)
    }
}
