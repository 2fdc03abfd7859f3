use std::{
    fs::{DirBuilder, File},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use sqlx::{
    ConnectOptions, Sqlite, SqlitePool,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use taper_core::Event;
use tokio::sync::{
    broadcast::{self, error::RecvError},
    mpsc, oneshot,
};

use crate::{
    Limits, Scope, Shortage, StoreError, disk,
    keys::Seen,
    layout::{self, Layout},
    startup,
    telemetry::Counters,
    writer::{Command, Reply, Writer},
};

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
pub(crate) struct Inner {
    layout: Layout,
    commands: mpsc::Sender<Command>,
    readers: SqlitePool,
    events: broadcast::Sender<Arc<Event>>,
    pub(crate) limits: Limits,
    pub(crate) shortage: Mutex<Option<Shortage>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) keys: Seen,
    lock: File,
}

/// Events as they are committed.
#[derive(Debug)]
pub struct LiveEvents {
    scope: Scope,
    events: broadcast::Receiver<Arc<Event>>,
}

impl LiveEvents {
    /// The next event. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`RecvError::Lagged`] for a reader that has been too slow; [`RecvError::Closed`] with the store.
    pub async fn recv(&mut self) -> Result<Arc<Event>, RecvError> {
        loop {
            let event = self.events.recv().await?;
            if self.scope.holds(&event.project) {
                return Ok(event);
            }
        }
    }
}

impl Store {
    /// Opens the data directory, making what is missing, and sweeps what an earlier server left half done.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another server has it open; whatever makes the database unfit for use, before anything changes.
    pub async fn open(data_dir: &Path) -> Result<Self, StoreError> {
        Self::open_within(data_dir, Limits::default()).await
    }

    /// Opens the data directory as [`Store::open`] does, and keeps within `limits`.
    ///
    /// # Errors
    /// Those of [`Store::open`]. Too little space is none: what there is can be read and deleted.
    pub async fn open_within(data_dir: &Path, limits: Limits) -> Result<Self, StoreError> {
        let layout = Layout::create(data_dir)?;
        let lock = layout.lock()?;
        disk::make_room(&layout)?;
        let options = connect_options(&layout.database()?);
        let opened = startup::open(&layout, &options).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options.clone().pragma("query_only", "on"))
            .await?;
        let (commands, queue) = mpsc::channel(WAITING_COMMANDS);
        let (events, _) = broadcast::channel(WAITING_EVENTS);
        let counters = Arc::new(Counters::default());
        let writer = Writer::new(options, opened, events.clone(), counters.clone());
        tokio::spawn(writer.run(queue));
        let store = Self {
            inner: Arc::new(Inner {
                layout,
                commands,
                readers,
                events,
                limits,
                shortage: Mutex::new(None),
                counters,
                keys: Seen::default(),
                lock,
            }),
        };
        store.look_at_disk().await?;
        disk::start_watching(&store.inner);
        Ok(store)
    }

    /// Every event of a scope from now on, in order, each after its commit.
    pub fn subscribe(&self, scope: &Scope) -> LiveEvents {
        LiveEvents {
            scope: scope.clone(),
            events: self.inner.events.subscribe(),
        }
    }

    pub(crate) fn subscribers(&self) -> usize {
        self.inner.events.receiver_count()
    }

    /// Where a job's run keeps its files. `job` must come from a [`crate::Job`], never from a client.
    pub fn run_dir(&self, job: &str) -> PathBuf {
        self.inner.layout.run_dir(job)
    }

    /// Makes the folder in which a job's run keeps its files, unless it is there.
    pub async fn make_run_dir(&self, job: &str) -> Result<(), StoreError> {
        let dir = self.run_dir(job);
        blocking("cannot make a run's folder", move || {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)
        })
        .await
    }

    /// Removes what a run that has ended left half done, checkpoints that did not become known, and its output if it is not wanted.
    pub async fn sweep_run(&self, job: &str, keep_output: bool) -> Result<(), StoreError> {
        let folders: Vec<String> = sqlx::query_scalar(
            "select folder from checkpoints where job = (select row from jobs where id = ?)",
        )
        .bind(job)
        .fetch_all(&mut *self.reader().await?)
        .await?;
        let (store, job) = (self.clone(), job.to_owned());
        blocking("cannot sweep a run's folder", move || {
            let known = folders.into_iter().collect();
            store.layout().sweep_run(&job, &known)?;
            if keep_output {
                return Ok(());
            }
            layout::remove(&store.run_dir(&job).join("output"))
        })
        .await
    }

    /// Removes the folders of all checkpoints of a job, whose rows are about to go.
    pub async fn remove_checkpoints(&self, job: &str) -> Result<(), StoreError> {
        let dir = self.run_dir(job).join("checkpoints");
        blocking("cannot remove a job's checkpoints", move || {
            layout::remove(&dir)
        })
        .await
    }

    /// Removes what no row names any more. The change was committed by then and its caller must hear so: what cannot be removed is told
    /// to the log, and the next start sweeps it.
    pub(crate) async fn remove_unlisted(&self, paths: Vec<PathBuf>) {
        let gone = paths.clone();
        let removed = blocking("cannot remove what is no longer listed", move || {
            layout::remove_all(&gone)
        });
        if let Err(error) = removed.await {
            tracing::error!(?paths, %error, "the next start removes what is left");
        }
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

    pub(crate) fn from_inner(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
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
