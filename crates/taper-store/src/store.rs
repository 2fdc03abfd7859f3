use std::{
    collections::{HashMap, HashSet},
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use sqlx::{
    ConnectOptions, Connection, Row, Sqlite, SqliteConnection, SqlitePool,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use taper_core::Event;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::{
    StoreError,
    layout::{self, Layout},
    writer::{Command, Reply, Writer},
};

/// Older versions can corrupt a database in WAL mode when two connections write or checkpoint at once.
const OLDEST_SQLITE: [u32; 3] = [3, 51, 3];
const READERS: u32 = 4;
/// Commands that may wait for the writer before callers have to.
const WAITING_COMMANDS: usize = 1024;
/// Events that a slow subscriber may lag behind before it has to read the database.
const WAITING_EVENTS: usize = 4096;

/// A handle to everything remembered; clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    layout: Layout,
    commands: mpsc::Sender<Command>,
    readers: SqlitePool,
    events: broadcast::Sender<Arc<Event>>,
    lock: File,
}

impl Store {
    /// Opens the data directory, making what is missing, and sweeps what an earlier server left half done.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another server has it open.
    pub async fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let layout = Layout::create(data_dir)?;
        let lock = layout.lock()?;
        let options = connect_options(&layout.database()?);
        let mut connection = SqliteConnection::connect_with(&options).await?;
        check_version(&mut connection).await?;
        sqlx::migrate!("../../migrations")
            .run(&mut connection)
            .await?;
        sweep(&layout, &mut connection).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options.clone().pragma("query_only", "on"))
            .await?;
        let (commands, queue) = mpsc::channel(WAITING_COMMANDS);
        let (events, _) = broadcast::channel(WAITING_EVENTS);
        tokio::spawn(Writer::new(options, connection, events.clone()).run(queue));
        Ok(Self {
            inner: Arc::new(Inner {
                layout,
                commands,
                readers,
                events,
                lock,
            }),
        })
    }

    /// Every event from now on, in order, each after its commit.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.inner.events.subscribe()
    }

    /// Where a job's run keeps its files. `job` must come from a [`crate::Job`], never from a client.
    pub fn run_dir(&self, job: &str) -> PathBuf {
        self.inner.layout.run_dir(job)
    }

    /// Removes what a run that has ended left half done.
    pub async fn sweep_run(&self, job: &str) -> Result<(), StoreError> {
        let run_dir = self.run_dir(job);
        blocking("cannot sweep a run's folder", move || {
            layout::sweep_half_done(&run_dir)
        })
        .await
    }

    /// Tells whether the database takes writes.
    pub async fn ready(&self) -> Result<(), StoreError> {
        self.write(Command::Ready).await
    }

    /// Commits what is under way and closes the database; later calls answer [`StoreError::Closed`].
    pub async fn close(&self) -> Result<(), StoreError> {
        self.inner.readers.close().await;
        self.write(Command::Close).await?;
        let unlocked = self.inner.lock.unlock();
        unlocked.map_err(StoreError::io("cannot give the data directory back"))
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.inner.layout
    }

    /// Sends the writer a command and waits for its commit.
    pub(crate) async fn write<T>(
        &self,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, StoreError> {
        let commands = &self.inner.commands;
        let (reply, answer) = oneshot::channel();
        if commands.send(command(reply)).await.is_err() {
            return Err(StoreError::Closed);
        }
        match answer.await {
            Ok(result) => result,
            Err(_) if commands.is_closed() => Err(StoreError::Closed),
            Err(_) => Err(StoreError::NotCommitted),
        }
    }

    /// A connection that can only read. Holding a transaction on it across a slow wait would let the log grow.
    pub(crate) async fn reader(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        match self.inner.readers.acquire().await {
            Err(sqlx::Error::PoolClosed) => Err(StoreError::Closed),
            connection => Ok(connection?),
        }
    }
}

fn connect_options(database: &Path) -> SqliteConnectOptions {
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

async fn check_version(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let version: String = sqlx::query_scalar("select sqlite_version()")
        .fetch_one(connection)
        .await?;
    let numbers: Vec<u32> = version.split('.').map_while(|n| n.parse().ok()).collect();
    if numbers.as_slice() < OLDEST_SQLITE.as_slice() {
        return Err(StoreError::OldSqlite(version));
    }
    Ok(())
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
    .fetch_all(connection)
    .await?;
    let mut runs: HashMap<String, HashSet<String>> = HashMap::new();
    for row in open {
        let folders = runs.entry(row.try_get("id")?).or_default();
        folders.extend(row.try_get::<Option<String>, _>("folder")?);
    }
    layout
        .sweep_files(&files)
        .and_then(|()| {
            runs.iter()
                .try_for_each(|(job, folders)| layout.sweep_run(job, folders))
        })
        .map_err(StoreError::io("cannot sweep the data directory"))
}

/// Does file work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(StoreError::io(what))
}

/// Unix seconds.
pub(crate) fn now() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() as i64)
}

/// A new id; ids grow with time, so that they sort as they were made.
pub(crate) fn new_id(kind: &str) -> String {
    format!("{kind}-{}", uuid::Uuid::now_v7().simple())
}
