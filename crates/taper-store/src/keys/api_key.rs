use std::fmt;

use sha2::{Digest, Sha256};
use sqlx::{Row, sqlite::SqliteRow};
use subtle::ConstantTimeEq;
use taper_core::Role;

use crate::{Scope, StoreError, ground::now, scope::project_of};

/// The beginning of every key.
pub(super) const PREFIX: &str = "taper-";
const ID_BYTES: usize = 6;
const SECRET_BYTES: usize = 32;
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
    pub(super) digest: KeyDigest,
}

/// Sha256 of a whole key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyDigest(pub(super) [u8; 32]);

impl KeyDigest {
    fn of(shown: &str) -> Self {
        Self(Sha256::digest(shown).into())
    }

    /// Compares in a time that tells nothing of where the two differ.
    pub(super) fn is_of(&self, shown: &str) -> bool {
        self.0.ct_eq(&Self::of(shown).0).into()
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(…)")
    }
}

impl ApiKey {
    /// Generates a new key; its text is told this once.
    pub(super) fn generate(
        role: Role,
        scope: Scope,
        name: String,
    ) -> Result<(Self, String), StoreError> {
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

pub(super) fn to_hex(bytes: &[u8]) -> String {
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
