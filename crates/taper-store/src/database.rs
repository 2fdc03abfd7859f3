//! The database as a file. What must hold before it is used: it is whole, this version knows its form, and nobody else writes to it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, Executor, SqliteConnection,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use crate::{
    data_dir::DataDir,
    error::StoreError,
    filesystem::{self, sync_dir},
    ground::blocking,
};

/// Older versions can corrupt a database in WAL mode when two connections write or checkpoint at once.
const OLDEST_SQLITE: [u32; 3] = [3, 51, 3];
static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations");

/// The database, open for writing.
pub(crate) struct Opened {
    pub(crate) connection: SqliteConnection,
    /// Grows with every start. A server that finds another number than its own has been replaced and must write no more.
    pub(crate) epoch: i32,
}

pub(crate) fn connect_options(database: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(database)
        .journal_mode(SqliteJournalMode::Wal)
        // An acknowledged job must survive a power cut; NORMAL loses it.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5))
        .foreign_keys(true)
        .pragma("journal_size_limit", "67108864")
        .disable_statement_logging()
}

/// Checks the database and brings it up to date; whoever opened it before must write no more.
///
/// # Errors
/// [`StoreError::Corrupt`], [`StoreError::Lost`] and [`StoreError::NewerSchema`], each before anything was changed.
pub(crate) async fn open(
    data_dir: &DataDir,
    options: &SqliteConnectOptions,
) -> Result<Opened, StoreError> {
    let path = options.get_filename();
    if data_dir.database_bytes() == 0 && data_dir.holds_something()? {
        return Err(StoreError::Lost(path.to_owned()));
    }
    let damaged = |error| corrupt(path, error);
    let connected = SqliteConnection::connect_with(options).await;
    let mut connection = connected.map_err(damaged)?;
    check_version(&mut connection).await?;
    check_pages(&mut connection, path)
        .await
        .map_err(damaged)??;
    migrate(&mut connection, data_dir).await?;
    // A crash may have left a long log.
    connection
        .execute("pragma wal_checkpoint(truncate)")
        .await?;
    let epoch = begin_epoch(&mut connection).await?;
    Ok(Opened { connection, epoch })
}

/// What was found of a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// The version of SQLite.
    pub sqlite: String,
    /// The last migration that the database has been through.
    pub schema: i64,
    pub jobs: u64,
    /// A server has it open.
    pub in_use: bool,
}

/// Looks at a data directory without changing it.
///
/// # Errors
/// [`StoreError::NoDatabase`], and what [`crate::Store::open`] would refuse.
pub async fn examine(data_dir: &Path) -> Result<Examined, StoreError> {
    let data_dir = DataDir::of(data_dir);
    let mut connection = open_to_read(&data_dir).await?;
    let sqlite = check_version(&mut connection).await?;
    let schema = check_known(&mut connection).await?.unwrap_or(0);
    let jobs: i64 = sqlx::query_scalar("select count(*) from jobs")
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    Ok(Examined {
        sqlite,
        schema,
        jobs: jobs as u64,
        in_use: matches!(data_dir.lock(), Err(StoreError::InUse(_))),
    })
}

/// Brings the schema up to date; what there was before is kept as a backup.
async fn migrate(connection: &mut SqliteConnection, data_dir: &DataDir) -> Result<(), StoreError> {
    let last = check_known(connection).await?;
    if let Some(last) = last.filter(|last| *last < newest_known()) {
        let copy = data_dir.before_migration(last);
        tracing::info!(backup = %copy.display(), "the database's schema is older; it is copied, then brought up to date");
        copy_database(connection, &copy).await?;
    }
    Ok(MIGRATIONS.run(connection).await?)
}

/// Connects to a database that a server may have open.
///
/// # Errors
/// [`StoreError::NoDatabase`]
pub(crate) async fn connect_to_read(data_dir: &DataDir) -> Result<SqliteConnection, StoreError> {
    let path = data_dir.database_path();
    if !path.is_file() {
        return Err(StoreError::NoDatabase(path));
    }
    let options = SqliteConnectOptions::new().filename(&path).read_only(true);
    let opened = options.disable_statement_logging().connect().await;
    opened.map_err(|error| corrupt(&path, error))
}

/// As [`connect_to_read`], and looks at every page.
pub(crate) async fn open_to_read(data_dir: &DataDir) -> Result<SqliteConnection, StoreError> {
    let path = data_dir.database_path();
    let mut connection = connect_to_read(data_dir).await?;
    let checked = check_pages(&mut connection, &path).await;
    checked.map_err(|error| corrupt(&path, error))??;
    Ok(connection)
}

/// Opens a database that nobody else has, so that it needs no log.
pub(crate) async fn open_copy(path: &Path) -> Result<SqliteConnection, StoreError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .foreign_keys(true)
        .disable_statement_logging();
    Ok(options.connect().await?)
}

/// The version of SQLite that is linked in.
///
/// # Errors
/// [`StoreError::OldSqlite`]
async fn check_version(connection: &mut SqliteConnection) -> Result<String, StoreError> {
    let version: String = sqlx::query_scalar("select sqlite_version()")
        .fetch_one(connection)
        .await?;
    let numbers: Vec<u32> = version.split('.').map_while(|n| n.parse().ok()).collect();
    if numbers.as_slice() < OLDEST_SQLITE.as_slice() {
        return Err(StoreError::OldSqlite(version));
    }
    Ok(version)
}

/// Reads every page, without the indexes' agreement with their tables, which takes several times as long.
pub(crate) async fn check_pages(
    connection: &mut SqliteConnection,
    path: &Path,
) -> Result<Result<(), StoreError>, sqlx::Error> {
    let findings: Vec<String> = sqlx::query_scalar("pragma quick_check(3)")
        .fetch_all(connection)
        .await?;
    if findings == ["ok"] {
        return Ok(Ok(()));
    }
    Ok(Err(StoreError::Corrupt {
        path: path.to_owned(),
        finding: findings.join("; ").replace('\n', " "),
    }))
}

/// Tells damage apart from other failures: SQLite's codes 11 (malformed) and 26 (not a database).
pub(crate) fn corrupt(path: &Path, error: sqlx::Error) -> StoreError {
    let code = error
        .as_database_error()
        .and_then(|error| error.code())
        .and_then(|code| code.parse::<u32>().ok())
        .map(|code| code & 0xff);
    match code {
        Some(11 | 26) => StoreError::Corrupt {
            path: path.to_owned(),
            finding: error.to_string(),
        },
        _ => error.into(),
    }
}

/// The last migration that the database has been through; `None` = it is new.
///
/// # Errors
/// [`StoreError::NewerSchema`]
pub(crate) async fn check_known(
    connection: &mut SqliteConnection,
) -> Result<Option<i64>, StoreError> {
    let last = applied(connection).await?.into_iter().max();
    let known = newest_known();
    match last {
        Some(found) if found > known => Err(StoreError::NewerSchema { found, known }),
        last => Ok(last),
    }
}

pub(crate) fn newest_known() -> i64 {
    MIGRATIONS.iter().map(|it| it.version).max().unwrap_or(0)
}

/// Versions of the migrations that the database has been through; none = it is new.
async fn applied(connection: &mut SqliteConnection) -> Result<Vec<i64>, sqlx::Error> {
    let there: Option<i64> =
        sqlx::query_scalar("select 1 from sqlite_schema where name = '_sqlx_migrations'")
            .fetch_optional(&mut *connection)
            .await?;
    if there.is_none() {
        return Ok(Vec::new());
    }
    sqlx::query_scalar("select version from _sqlx_migrations where success")
        .fetch_all(connection)
        .await
}

/// The epoch lies in the header, where reading it costs nothing and no table has to exist.
async fn begin_epoch(connection: &mut SqliteConnection) -> Result<i32, sqlx::Error> {
    let epoch = epoch(connection).await?.wrapping_add(1);
    let write = sqlx::AssertSqlSafe(format!("pragma user_version = {epoch}"));
    connection.execute(write).await?;
    Ok(epoch)
}

/// The epoch in force.
pub(crate) async fn epoch(connection: &mut SqliteConnection) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("pragma user_version")
        .fetch_one(connection)
        .await
}

/// Writes a consistent copy of an open database, which appears under its name when it is whole and checked.
pub(crate) async fn copy_database(
    connection: &mut SqliteConnection,
    to: &Path,
) -> Result<(), StoreError> {
    let half_done = with_ending(to, "tmp");
    filesystem::remove(&half_done).map_err(StoreError::io("cannot begin a backup"))?;
    sqlx::query("vacuum into ?")
        .bind(half_done.to_string_lossy().into_owned())
        .execute(connection)
        .await?;
    let mut copy = open_copy(&half_done).await?;
    check_pages(&mut copy, &half_done).await??;
    copy.close().await?;
    let to = to.to_owned();
    blocking("cannot keep a backup", move || {
        fs::File::open(&half_done)?.sync_all()?;
        fs::rename(&half_done, &to)?;
        sync_dir(to.parent().unwrap_or(Path::new(".")))
    })
    .await
}

/// A path beside `path`, for what is not whole yet.
pub(crate) fn with_ending(path: &Path, ending: &str) -> PathBuf {
    // Of `backup/` and `backup` the same.
    let mut name = path.components().as_path().as_os_str().to_owned();
    name.push(format!(".{ending}"));
    name.into()
}
