use std::{io, path::PathBuf};

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
    #[error("the database could not be brought up to date: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    #[error(
        "the database could not commit the change, so nothing has changed; the server's log says why"
    )]
    NotCommitted,
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
    #[error("job {job} is not running under attempt {attempt}")]
    StaleAttempt { job: String, attempt: u32 },
}

impl StoreError {
    /// Adds to an I/O error what was being done.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
