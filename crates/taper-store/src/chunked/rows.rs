//! The rows of uploads and their parts.

use sqlx::{Row, SqliteConnection};

use super::{ChunkedUpload, Completion, NewUpload, UploadPart, UploadState};
use crate::{
    Once, StoreError,
    jobs::to_json,
    store::{new_id, now},
    writer::Tx,
};

/// How long an upload waits for its parts.
const LIFETIME_SECONDS: i64 = 60 * 60;

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
        upload.made = crate::files::find(connection, &file).await?;
    }
    Ok(Some(upload))
}

impl Tx<'_> {
    pub(crate) async fn create_upload(
        &mut self,
        new: NewUpload,
        once: Option<&Once>,
    ) -> Result<ChunkedUpload, StoreError> {
        if let Some(id) = self.made_before(once).await?
            && let Some(upload) = find(self.connection, &id).await?
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
        .fetch_one(&mut *self.connection)
        .await?;
        self.remember(once, &id).await?;
        ChunkedUpload::read(&row)
    }

    pub(crate) async fn add_part(
        &mut self,
        part: UploadPart,
        once: Option<&Once>,
    ) -> Result<UploadPart, StoreError> {
        if let Some(id) = self.made_before(once).await?
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
                .fetch_one(&mut *self.connection)
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
            .execute(&mut *self.connection)
            .await?;
        self.remember(once, &part.id).await?;
        Ok(part)
    }

    /// Makes the file of an upload known, and tells which parts are no longer needed.
    pub(crate) async fn complete(
        &mut self,
        it: Completion,
    ) -> Result<(ChunkedUpload, Vec<String>), StoreError> {
        let Some(upload) = find(self.connection, &it.upload).await? else {
            return Err(StoreError::UploadClosed {
                id: it.upload,
                state: UploadState::Expired,
            });
        };
        // Another request may have completed it meanwhile.
        if upload.state == UploadState::Completed && upload.parts == it.parts {
            return Ok((upload, Vec::new()));
        }
        upload.require_open()?;
        let file = self.add_file(it.file, None).await?;
        sqlx::query("update uploads set state = 'completed', file = ?, parts = ? where row = ?")
            .bind(&file.id)
            .bind(to_json(&it.parts))
            .bind(upload.row)
            .execute(&mut *self.connection)
            .await?;
        let leftovers = self.drop_parts(upload.row).await?;
        let upload = ChunkedUpload {
            state: UploadState::Completed,
            made: Some(file),
            parts: it.parts,
            ..upload
        };
        Ok((upload, leftovers))
    }

    pub(crate) async fn cancel_upload(
        &mut self,
        id: &str,
    ) -> Result<(ChunkedUpload, Vec<String>), StoreError> {
        let upload = find(self.connection, id).await?;
        if let Some(upload) = upload.filter(|upload| upload.state == UploadState::Cancelled) {
            return Ok((upload, Vec::new()));
        }
        let upload = self.open_upload(id).await?;
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
            .execute(&mut *self.connection)
            .await?;
        self.drop_parts(row).await
    }

    async fn open_upload(&mut self, id: &str) -> Result<ChunkedUpload, StoreError> {
        let upload = find(self.connection, id).await?;
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
            .fetch_optional(&mut *self.connection)
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
            .fetch_all(&mut *self.connection)
            .await?;
        Ok(ids)
    }
}
