use std::{io, path::PathBuf};

use crate::{limits::Shortage, objects::key::ObjectKey, uploads::state::UploadState};

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "the data directory {0} is in use by another taper server; stop it or choose another --data-dir"
    )]
    InUse(PathBuf),
    #[error("the store is closed")]
    Closed,
    #[error("SQLite {0} is too old: 3.51.3 or newer is needed, older ones can corrupt a database")]
    OldSqlite(String),
    #[error(
        "the database {path} is damaged: {finding}; nothing was changed. Move the data directory away and run: taper restore --from BACKUP --data-dir DIR"
    )]
    Corrupt { path: PathBuf, finding: String },
    #[error(
        "the database {0} is empty, but files or jobs lie beside it; nothing was changed. Move the data directory away and run: taper restore --from BACKUP --data-dir DIR"
    )]
    Lost(PathBuf),
    #[error(
        "the database was written by a newer taper (schema {found}, this version knows {known}); start that version, or restore a backup of before the upgrade"
    )]
    NewerSchema { found: i64, known: i64 },
    #[error("there is no database {0}; name the data directory of a server, or a backup")]
    NoDatabase(PathBuf),
    #[error("{0} is there already and not empty; name a new folder")]
    Exists(PathBuf),
    #[error("the database could not be brought up to date: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    #[error(
        "the database could not commit the change, so nothing has changed; the server's log says why"
    )]
    NotCommitted,
    #[error("there is no space for anything new: {0}")]
    NoSpace(Shortage),
    #[error("{0} is not what was kept there; it was damaged or replaced")]
    Replaced(ObjectKey),
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("the row of {what} cannot be read: {source}")]
    Unreadable {
        what: String,
        source: serde_json::Error,
    },
    #[error("'after' names nothing in this list: {0}")]
    UnknownCursor(String),
    #[error("the file {0} does not exist")]
    UnknownFile(String),
    #[error("the file {file} is in use by job {job}; cancel the job or wait until it has ended")]
    FileInUse { file: String, job: String },
    #[error("the model {model} is in use by job {job}; cancel the job or wait until it has ended")]
    ModelInUse { model: String, job: String },
    #[error(
        "the Idempotency-Key '{0}' was sent before with another request; send a new key with a new request"
    )]
    KeyReused(String),
    #[error("the upload {id} is {state}; begin another one with POST /v1/uploads")]
    UploadClosed { id: String, state: UploadState },
    #[error(
        "with this part the upload {id} would have {found} bytes, but it was begun for {declared}; cancel it and begin another one"
    )]
    UploadTooLong {
        id: String,
        declared: u64,
        found: u64,
    },
    #[error("the parts have {found} bytes together, but the upload was begun for {declared}")]
    UploadIncomplete { declared: u64, found: u64 },
    #[error("the upload has no part '{0}', or it is named twice")]
    UnknownPart(String),
    #[error("the bytes have the MD5 sum {found}, not {declared}; send the parts again")]
    WrongSum { declared: String, found: String },
    #[error("job {job} is not running under attempt {attempt}")]
    StaleAttempt { job: String, attempt: u32 },
}

impl StoreError {
    /// Tells whether the same call may succeed later, though nothing but the store or its disk changes.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::NoSpace(_) | Self::NotCommitted | Self::Database(_) | Self::Io { .. }
        )
    }

    /// Tells whether an error of the disk may as well be there for ever: one that nobody has to free space for.
    pub fn may_last(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        match self {
            Self::Io { source, .. } => !matches!(source.kind(), QuotaExceeded | StorageFull),
            _ => false,
        }
    }

    /// Adds to an I/O error what was being done.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
