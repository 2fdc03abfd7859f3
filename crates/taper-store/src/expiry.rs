use sqlx::Row;

use crate::{Store, StoreError, UploadState, ground::now, idempotency::KEY_SECONDS, writer::Tx};

impl Store {
    /// Removes what has outlived its time: files that no open job names, uploads that were not completed, marks of old requests,
    /// sessions.
    pub async fn expire(&self) -> Result<(), StoreError> {
        let gone = self.write(|tx| Box::pin(tx.expire())).await?;
        for id in &gone {
            tracing::info!(id, "expired");
        }
        self.remove_files(&gone).await;
        Ok(())
    }
}

impl Tx {
    /// Forgets uploads that have ended, once no request can mean them any more; their files stay.
    async fn forget_uploads(&mut self) -> Result<(), StoreError> {
        sqlx::query("delete from uploads where state <> 'pending' and expires_at < ?")
            .bind(now() - KEY_SECONDS)
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }

    /// Deletes the rows, and tells the ids of the files and parts that have lost theirs.
    async fn expire(&mut self) -> Result<Vec<String>, StoreError> {
        self.forget_requests().await?;
        self.forget_sessions().await?;
        self.forget_uploads().await?;
        let mut gone = Vec::new();
        let files: Vec<String> = sqlx::query_scalar("select id from files where expires_at <= ?")
            .bind(now())
            .fetch_all(&mut self.connection)
            .await?;
        for id in files {
            match self.delete_file(&id).await {
                Ok(_) => gone.push(id),
                // It goes once the job has ended.
                Err(StoreError::FileInUse { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let uploads =
            sqlx::query("select row from uploads where state = 'pending' and expires_at <= ?")
                .bind(now())
                .fetch_all(&mut self.connection)
                .await?;
        for upload in uploads {
            let row = upload.try_get("row")?;
            gone.extend(self.end_upload(row, UploadState::Expired).await?);
        }
        Ok(gone)
    }
}
