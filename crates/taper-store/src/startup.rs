//! What must hold before a database is used: it is whole, this version knows its form, and nobody else writes to it.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use sqlx::{
    Connection, Executor, Row, SqliteConnection, migrate::Migrator, sqlite::SqliteConnectOptions,
};

use crate::{
    StoreError, backup,
    layout::{self, Layout},
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

/// Checks the database, brings it up to date and removes from the disk what it does not know.
///
/// # Errors
/// [`StoreError::Corrupt`], [`StoreError::Lost`] and [`StoreError::NewerSchema`], each before anything was changed.
pub(crate) async fn open(
    layout: &Layout,
    options: &SqliteConnectOptions,
) -> Result<Opened, StoreError> {
    let path = options.get_filename();
    if layout.database_bytes() == 0 && layout.holds_something()? {
        return Err(StoreError::Lost(path.to_owned()));
    }
    let damaged = |error| corrupt(path, error);
    let connected = SqliteConnection::connect_with(options).await;
    let mut connection = connected.map_err(damaged)?;
    check_version(&mut connection).await?;
    check_pages(&mut connection, path)
        .await
        .map_err(damaged)??;
    migrate(&mut connection, layout).await?;
    // A crash may have left a long log.
    connection
        .execute("pragma wal_checkpoint(truncate)")
        .await?;
    let epoch = begin_epoch(&mut connection).await?;
    sweep(layout, &mut connection).await?;
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
    let layout = Layout::of(data_dir);
    let mut connection = backup::open_to_read(&layout).await?;
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
        in_use: matches!(layout.lock(), Err(StoreError::InUse(_))),
    })
}

/// The version of SQLite that is linked in.
///
/// # Errors
/// [`StoreError::OldSqlite`]
pub(crate) async fn check_version(connection: &mut SqliteConnection) -> Result<String, StoreError> {
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

/// Brings the schema up to date; what there was before is kept as a backup.
async fn migrate(connection: &mut SqliteConnection, layout: &Layout) -> Result<(), StoreError> {
    let last = check_known(connection).await?;
    if let Some(last) = last.filter(|last| *last < newest_known()) {
        let copy = layout.before_migration(last);
        tracing::info!(backup = %copy.display(), "the database's schema is older; it is copied, then brought up to date");
        backup::copy_database(connection, &copy).await?;
    }
    Ok(MIGRATIONS.run(connection).await?)
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

/// Removes from the disk what the database does not know. Ended jobs have been swept when they ended.
async fn sweep(layout: &Layout, connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let files: HashSet<String> =
        sqlx::query_scalar("select id from files union all select id from upload_parts")
            .fetch_all(&mut *connection)
            .await?
            .into_iter()
            .collect();
    let open = sqlx::query(
        "select jobs.id, checkpoints.folder from jobs left join checkpoints on checkpoints.job = jobs.row
         where state in ('validating_files', 'queued', 'running', 'paused')",
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut runs: HashMap<String, HashSet<String>> = HashMap::new();
    for row in open {
        let folders = runs.entry(row.try_get("id")?).or_default();
        folders.extend(row.try_get::<Option<String>, _>("folder")?);
    }
    let mut gone = Vec::new();
    for job in layout.runs().map_err(cannot_sweep())? {
        let wanted = sqlx::query(
            "select exists (select 1 from checkpoints where job = jobs.row) as checkpoints, state = 'succeeded' as output
             from jobs where id = ?",
        )
        .bind(&job)
        .fetch_optional(&mut *connection)
        .await?;
        let dir = layout.run_dir(&job);
        let Some(wanted) = wanted else {
            gone.push(dir);
            continue;
        };
        // A run writes its output anew: nothing can go on from one that did not become known.
        for folder in ["checkpoints", "output"] {
            if !wanted.try_get::<bool, _>(folder)? {
                gone.push(dir.join(folder));
            }
        }
    }
    layout
        .sweep_files(&files)
        .and_then(|()| layout::remove_all(&gone))
        .and_then(|()| {
            runs.iter()
                .try_for_each(|(job, folders)| layout.sweep_run(job, folders))
        })
        .map_err(cannot_sweep())
}

fn cannot_sweep() -> impl FnOnce(std::io::Error) -> StoreError {
    StoreError::io("cannot sweep the data directory")
}
