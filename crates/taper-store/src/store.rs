use std::{
    fs::File,
    sync::{Arc, Mutex},
};

use sqlx::{Sqlite, SqlitePool, pool::PoolConnection};
use taper_core::Event;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::{
    counters::Counters,
    data_dir::DataDir,
    error::StoreError,
    keys::seen::SeenKeys,
    limits::{Limits, Shortage},
    objects::ObjectStore,
    scope::Scope,
    writer::{Tx, Work, WriterHandle},
};

/// A handle to everything remembered; clones share it. What it can do stands beside the rows that it is about.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) data_dir: DataDir,
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) writer: WriterHandle,
    pub(crate) readers: SqlitePool,
    pub(crate) events: broadcast::Sender<Arc<Event>>,
    pub(crate) limits: Limits,
    pub(crate) shortage: Mutex<Option<Shortage>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) keys: SeenKeys,
    pub(crate) lock: File,
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
    /// Every event of a scope from now on, in order, each after its commit.
    pub fn subscribe(&self, scope: &Scope) -> LiveEvents {
        LiveEvents {
            scope: scope.clone(),
            events: self.inner.events.subscribe(),
        }
    }

    /// Tells whether the database takes writes: it commits nothing.
    pub async fn ready(&self) -> Result<(), StoreError> {
        self.write(|_| Box::pin(async { Ok(()) })).await
    }

    /// Commits what is under way and closes the database; later calls answer [`StoreError::Closed`].
    pub async fn close(&self) -> Result<(), StoreError> {
        self.inner.readers.close().await;
        self.inner.writer.close().await?;
        let unlocked = self.inner.lock.unlock();
        unlocked.map_err(StoreError::io("cannot give the data directory back"))
    }

    pub(crate) fn from_inner(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    pub(crate) fn data_dir(&self) -> &DataDir {
        &self.inner.data_dir
    }

    pub(crate) fn objects(&self) -> &dyn ObjectStore {
        &*self.inner.objects
    }

    /// Has `work` done in the next transaction and waits for its commit. Where it fails, what it did is undone.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl for<'t> FnOnce(&'t mut Tx) -> Work<'t, T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.inner.writer.write(work).await
    }

    /// A connection that can only read. Holding a transaction on it across a slow wait would let the log grow.
    pub(crate) async fn reader(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        match self.inner.readers.acquire().await {
            Err(sqlx::Error::PoolClosed) => Err(StoreError::Closed),
            connection => Ok(connection?),
        }
    }
}
