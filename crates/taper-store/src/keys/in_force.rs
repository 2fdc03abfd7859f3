use std::sync::atomic::Ordering::Relaxed;

use sqlx::Row;

use super::api_key::{ApiKey, PREFIX};
use crate::{Store, StoreError, ground::now, writer::Tx};

/// How many keys there are. It changes with each that is made or revoked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyCounts {
    made: i64,
    revoked: i64,
}

impl Store {
    /// Tells whether a key has ever been made here: then nobody is served without one, though all may have been revoked.
    pub async fn has_keys(&self) -> Result<bool, StoreError> {
        let seen = &self.inner().keys.any;
        if seen.load(Relaxed) {
            return Ok(true);
        }
        let any = sqlx::query_scalar("select exists (select 1 from keys)")
            .fetch_one(&mut *self.reader().await?)
            .await?;
        seen.fetch_or(any, Relaxed);
        Ok(any)
    }

    /// Counts the keys; no row ever goes.
    pub async fn count_keys(&self) -> Result<KeyCounts, StoreError> {
        let row = sqlx::query("select count(*) as made, count(revoked_at) as revoked from keys")
            .fetch_one(&mut *self.reader().await?)
            .await?;
        Ok(KeyCounts {
            made: row.try_get("made")?,
            revoked: row.try_get("revoked")?,
        })
    }

    /// Finds the key in force that a client shows. It is looked up for each request, so that a revocation holds at once.
    pub async fn key(&self, shown: &str) -> Result<Option<ApiKey>, StoreError> {
        let Some((id, _)) = shown
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('-'))
        else {
            return Ok(None);
        };
        let row = sqlx::query("select * from keys where id = ? and revoked_at is null")
            .bind(id)
            .fetch_optional(&mut *self.reader().await?)
            .await?;
        let key = row.as_ref().map(ApiKey::read).transpose()?;
        let key = key.filter(|key| key.digest.is_of(shown));
        if let Some(key) = &key {
            self.used(key);
        }
        Ok(key)
    }

    /// Notes that a key was used, without keeping its request waiting.
    pub(crate) fn used(&self, key: &ApiKey) {
        if !self.inner().keys.is_news(&key.id) {
            return;
        }
        let (store, id) = (self.clone(), key.id.clone());
        tokio::spawn(async move {
            if let Err(error) = store.write(|tx| Box::pin(tx.note_use(id))).await {
                tracing::debug!(%error, "the use of a key could not be noted");
            }
        });
    }
}

impl Tx {
    async fn note_use(&mut self, key: String) -> Result<(), StoreError> {
        sqlx::query("update keys set last_used_at = ? where id = ?")
            .bind(now())
            .bind(key)
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }
}
