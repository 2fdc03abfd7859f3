use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use taper_core::Event;
use tokio::sync::broadcast;

use crate::StoreError;

/// A handle to everything remembered; clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    events: broadcast::Sender<Arc<Event>>,
}

impl Store {
    /// Opens the data directory, making what is missing, and sweeps what an earlier server left half done.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another server has it open.
    pub async fn open(data_dir: &Path) -> Result<Self, StoreError> {
        unimplemented!("{data_dir:?}")
    }

    /// Every event from now on, in order, each after its commit.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    /// Where a job's run keeps its files.
    pub fn run_dir(&self, job: &str) -> PathBuf {
        unimplemented!("{job}")
    }

    /// Tells whether the database takes writes.
    pub async fn ready(&self) -> Result<(), StoreError> {
        unimplemented!()
    }

    /// Commits what is under way and closes the database; later calls answer [`StoreError::Closed`].
    pub async fn close(&self) -> Result<(), StoreError> {
        unimplemented!()
    }
}
