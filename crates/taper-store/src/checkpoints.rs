use std::path::PathBuf;

use taper_core::{CheckpointFiles, Metrics};

use crate::{Page, Store, StoreError};

/// A checkpoint that lies whole on the disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    pub row: i64,
    /// `ftckpt-…`
    pub id: String,
    pub step: u64,
    pub metrics: Metrics,
    pub bytes: u64,
    /// Unix seconds.
    pub created_at: i64,
    pub dir: PathBuf,
}

impl Store {
    /// Makes a checkpoint known and forgets those it supersedes, rows first, then folders.
    ///
    /// # Errors
    /// [`StoreError::StaleAttempt`] when the job is not running under `attempt`.
    pub async fn publish_checkpoint(
        &self,
        job: &str,
        attempt: u32,
        files: CheckpointFiles,
    ) -> Result<Checkpoint, StoreError> {
        unimplemented!("{job} {attempt} {files:?}")
    }

    /// Lists a job's checkpoints, highest step first, after the one with the id `after`.
    pub async fn checkpoints(
        &self,
        job: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<Checkpoint>, StoreError> {
        unimplemented!("{job} {after:?} {limit}")
    }

    /// The checkpoint that a job goes on from.
    pub async fn last_checkpoint(&self, job: &str) -> Result<Option<Checkpoint>, StoreError> {
        unimplemented!("{job}")
    }
}
