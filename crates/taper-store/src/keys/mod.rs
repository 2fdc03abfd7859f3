//! Keys: what clients show to be let in. The database holds their digests alone.

mod ring;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use sha2::{Digest, Sha256};
use sqlx::{Row, sqlite::SqliteRow};
use subtle::ConstantTimeEq;
use taper_core::Role;

pub use self::ring::{KeyRing, known_keys};
use crate::{
    Scope, Store, StoreError,
    scope::project_of,
    store::now,
    writer::{Command, Tx},
};

/// The beginning of every key.
const PREFIX: &str = "taper-";
const ID_BYTES: usize = 6;
const SECRET_BYTES: usize = 32;
/// How exactly the last use of a key is known; each note of it is a commit.
const USE_SECONDS: i64 = 60;

/// A key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// By which it is listed and revoked; it stands in the key as well.
    pub id: String,
    pub role: Role,
    /// What it shows.
    pub scope: Scope,
    /// What it is for, in its maker's words.
    pub name: String,
    /// Unix seconds, as all times here.
    pub created_at: i64,
    /// To the minute.
    pub last_used_at: Option<i64>,
    pub revoked_at: Option<i64>,
    digest: KeyDigest,
}

/// Sha256 of a whole key.
#[derive(Clone, Copy, PartialEq, Eq)]
struct KeyDigest([u8; 32]);

impl KeyDigest {
    fn of(shown: &str) -> Self {
        Self(Sha256::digest(shown).into())
    }

    /// Compares in a time that tells nothing of where the two differ.
    fn is_of(&self, shown: &str) -> bool {
        self.0.ct_eq(&Self::of(shown).0).into()
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(…)")
    }
}

impl ApiKey {
    /// Draws a new key; its text is told this once.
    fn draw(role: Role, scope: Scope, name: String) -> Result<(Self, String), StoreError> {
        let (id, secret) = (random_hex::<ID_BYTES>()?, random_hex::<SECRET_BYTES>()?);
        let text = format!("{PREFIX}{id}-{secret}");
        let key = Self {
            id,
            role,
            scope,
            name,
            created_at: now(),
            last_used_at: None,
            revoked_at: None,
            digest: KeyDigest::of(&text),
        };
        Ok((key, text))
    }

    pub(crate) fn read(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let unreadable = |column: &str| sqlx::Error::ColumnDecode {
            index: column.to_owned(),
            source: "this version does not know what it says".into(),
        };
        let role: String = row.try_get("role")?;
        let scope = match row.try_get::<Option<&str>, _>("project")? {
            Some(_) => Scope::Project(project_of(row)?),
            None => Scope::All,
        };
        Ok(Self {
            id: row.try_get("id")?,
            role: Role::parse(&role).ok_or_else(|| unreadable("role"))?,
            scope,
            name: row.try_get("name")?,
            created_at: row.try_get("created_at")?,
            last_used_at: row.try_get("last_used_at")?,
            revoked_at: row.try_get("revoked_at")?,
            digest: from_hex(row.try_get("digest")?).ok_or_else(|| unreadable("digest"))?,
        })
    }
}

/// Random bytes of the system's, in hex.
pub(crate) fn random_hex<const BYTES: usize>() -> Result<String, StoreError> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(|error| {
        StoreError::io("the system gives no random numbers")(std::io::Error::other(error))
    })?;
    Ok(to_hex(&bytes))
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<KeyDigest> {
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(KeyDigest(bytes))
}

/// How many keys there are. It changes with each that is made or revoked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyCounts {
    made: i64,
    revoked: i64,
}

/// What this process has seen of the keys.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// There are some. It stays true, since no row ever goes.
    any: AtomicBool,
    /// When their last uses were noted.
    uses: Mutex<HashMap<String, i64>>,
}

impl Seen {
    /// Tells whether a use of a key is to be noted, and takes it for noted.
    fn is_news(&self, key: &str) -> bool {
        let mut noted = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now();
        let last = noted.get(key);
        if last.is_some_and(|last| now - last < USE_SECONDS) {
            return false;
        }
        noted.insert(key.to_owned(), now);
        true
    }
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
            if let Err(error) = store.write(|reply| Command::NoteUse(id, reply)).await {
                tracing::debug!(%error, "the use of a key could not be noted");
            }
        });
    }
}

impl Tx<'_> {
    pub(crate) async fn note_use(&mut self, key: &str) -> Result<(), StoreError> {
        sqlx::query("update keys set last_used_at = ? where id = ?")
            .bind(now())
            .bind(key)
            .execute(&mut *self.connection)
            .await?;
        Ok(())
    }
}
