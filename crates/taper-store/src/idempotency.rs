//! Requests and what they have made, kept in the table `requests`, so that one that is sent twice makes one thing. What a request is
//! known by is read off its headers in the server's `middleware/idempotency.rs`.

use sha2::{Digest, Sha256};
use sqlx::{Row, SqliteConnection};

use crate::{Store, StoreError, ground::now, writer::Tx};

/// How long a request counts as the one that a client's retry repeats. Clients wait some seconds; who asks for the same later means it.
const RETRY_SECONDS: i64 = 2 * 60;
/// How long a client's own key holds.
pub(crate) const KEY_SECONDS: i64 = 30 * 24 * 60 * 60;

/// By what a request that was sent before is known again, so that it makes nothing twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Who asks for which kind of thing; keys of other scopes do not count.
    pub scope: String,
    /// The client's `Idempotency-Key`: the same key is the same request.
    pub key: Option<String>,
    /// Of what is asked for.
    pub digest: String,
    /// The client says that it repeats itself: the same digest shortly before is the same request.
    pub retried: bool,
}

impl IdempotencyKey {
    /// Notes what is asked for.
    #[must_use]
    pub fn asking(mut self, parts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        self.digest = format!("{:x}", hash.finalize());
        self
    }
}

impl Store {
    /// The id of what the same request has made before.
    ///
    /// # Errors
    /// [`StoreError::KeyReused`] when its key stands for another request.
    pub async fn made_before(
        &self,
        idempotency: &IdempotencyKey,
    ) -> Result<Option<String>, StoreError> {
        find(&mut *self.reader().await?, idempotency).await
    }
}

async fn find(
    connection: &mut SqliteConnection,
    idempotency: &IdempotencyKey,
) -> Result<Option<String>, StoreError> {
    let Some(key) = &idempotency.key else {
        return match idempotency.retried {
            true => find_repeated(connection, idempotency).await,
            false => Ok(None),
        };
    };
    let row = sqlx::query("select digest, object from requests where scope = ? and key = ?")
        .bind(&idempotency.scope)
        .bind(key)
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    if row.try_get::<String, _>("digest")? != idempotency.digest {
        return Err(StoreError::KeyReused(key.clone()));
    }
    Ok(Some(row.try_get("object")?))
}

async fn find_repeated(
    connection: &mut SqliteConnection,
    idempotency: &IdempotencyKey,
) -> Result<Option<String>, StoreError> {
    let object = sqlx::query_scalar(
        "select object from requests
         where key is null and scope = ? and digest = ? and created_at >= ?
         and not exists (select 1 from uploads where id = object and state <> 'pending')
         order by row desc limit 1",
    )
    .bind(&idempotency.scope)
    .bind(&idempotency.digest)
    .bind(now() - RETRY_SECONDS)
    .fetch_optional(connection)
    .await?;
    Ok(object)
}

impl Tx {
    pub(crate) async fn made_before(
        &mut self,
        idempotency: Option<&IdempotencyKey>,
    ) -> Result<Option<String>, StoreError> {
        match idempotency {
            Some(idempotency) => find(&mut self.connection, idempotency).await,
            None => Ok(None),
        }
    }

    /// Notes what a request has made, in the transaction that makes it.
    pub(crate) async fn remember(
        &mut self,
        idempotency: Option<&IdempotencyKey>,
        object: &str,
    ) -> Result<(), StoreError> {
        let Some(idempotency) = idempotency else {
            return Ok(());
        };
        sqlx::query(
            "insert or replace into requests (scope, key, digest, object, created_at)
             values (?, ?, ?, ?, ?)",
        )
        .bind(&idempotency.scope)
        .bind(&idempotency.key)
        .bind(&idempotency.digest)
        .bind(object)
        .bind(now())
        .execute(&mut self.connection)
        .await?;
        Ok(())
    }

    /// Forgets requests that no client repeats any more.
    pub(crate) async fn forget_requests(&mut self) -> Result<(), StoreError> {
        sqlx::query(
            "delete from requests where created_at < ?1 or (key is null and created_at < ?2)",
        )
        .bind(now() - KEY_SECONDS)
        .bind(now() - RETRY_SECONDS)
        .execute(&mut self.connection)
        .await?;
        Ok(())
    }
}
