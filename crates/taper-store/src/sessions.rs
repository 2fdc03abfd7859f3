//! Sessions: a page that was shown a key once goes on with a random token of its own.

use sha2::{Digest, Sha256};
use sqlx::Row;

use crate::{ApiKey, Store, StoreError, ground::now, keys::random_hex, writer::Tx};

/// A session that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The key that it was begun with, which is still in force; `None` = the one of the server's environment.
    pub key: Option<ApiKey>,
    /// Unix seconds.
    pub expires_at: i64,
}

/// A session that is to be known.
struct NewSession {
    id: String,
    key: Option<String>,
    expires_at: i64,
}

impl Session {
    /// How long one lasts.
    pub const SECONDS: i64 = 7 * 24 * 60 * 60;
}

impl Store {
    /// Begins a session, and tells the token for its cookie. Without a key it is one of the server's environment, and `environment`, the
    /// digest of that key, is part of how it is found again: it ends when another takes its place.
    pub async fn open_session(
        &self,
        key: Option<&ApiKey>,
        environment: &[u8],
    ) -> Result<(String, Session), StoreError> {
        let token = random_hex::<32>()?;
        let expires_at = now() + Session::SECONDS;
        let new = NewSession {
            id: match key {
                Some(_) => id(&token, &[]),
                None => id(&token, environment),
            },
            key: key.map(|key| key.id.clone()),
            expires_at,
        };
        self.write(|tx| Box::pin(tx.open_session(new))).await?;
        let key = key.cloned();
        Ok((token, Session { key, expires_at }))
    }

    /// Finds the session of a cookie; `environment` is the digest of the key of the server's environment, empty if it has none.
    pub async fn session(
        &self,
        token: &str,
        environment: &[u8],
    ) -> Result<Option<Session>, StoreError> {
        let row = sqlx::query(
            "select sessions.key, sessions.expires_at, keys.*
             from sessions left join keys on keys.id = sessions.key
             where sessions.id in (?1, ?2) and expires_at > ?3 and revoked_at is null",
        )
        .bind(id(token, &[]))
        .bind(id(token, environment))
        .bind(now())
        .fetch_optional(&mut *self.reader().await?)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let key = match row.try_get::<Option<&str>, _>("key")? {
            Some(_) => Some(ApiKey::read(&row)?),
            None => None,
        };
        if let Some(key) = &key {
            self.used(key);
        }
        let expires_at = row.try_get("expires_at")?;
        Ok(Some(Session { key, expires_at }))
    }

    /// Ends the session of a cookie, if there is one.
    pub async fn close_session(&self, token: &str, environment: &[u8]) -> Result<(), StoreError> {
        let ids = vec![id(token, &[]), id(token, environment)];
        self.write(|tx| Box::pin(tx.close_session(ids))).await
    }
}

fn id(token: &str, environment: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(token);
    hash.update(environment);
    format!("{:x}", hash.finalize())
}

impl Tx {
    async fn open_session(&mut self, new: NewSession) -> Result<(), StoreError> {
        sqlx::query("insert into sessions (id, key, expires_at) values (?, ?, ?)")
            .bind(&new.id)
            .bind(&new.key)
            .bind(new.expires_at)
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }

    async fn close_session(&mut self, ids: Vec<String>) -> Result<(), StoreError> {
        for id in ids {
            sqlx::query("delete from sessions where id = ?")
                .bind(id)
                .execute(&mut self.connection)
                .await?;
        }
        Ok(())
    }

    /// Forgets sessions that have ended by themselves.
    pub(crate) async fn forget_sessions(&mut self) -> Result<(), StoreError> {
        sqlx::query("delete from sessions where expires_at <= ?")
            .bind(now())
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }
}
