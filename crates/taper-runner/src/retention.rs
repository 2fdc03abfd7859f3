use std::{sync::Arc, time::Duration};

use taper_store::{Job, StoreError};
use tokio::time::{MissedTickBehavior, interval};

use crate::runner::Shared;

/// The time between two rounds; the first comes at the start.
const ROUND: Duration = Duration::from_secs(60 * 60);
/// Jobs looked for at once.
const BATCH: u32 = 100;

/// How long things are kept after a job has ended.
#[derive(Debug, Clone, Copy, Default)]
pub struct Retention {
    /// Checkpoints; `None` = for ever.
    pub checkpoints: Option<Duration>,
    /// The job with all that it has made; `None` = for ever.
    pub jobs: Option<Duration>,
}

/// Deletes what has been kept long enough, until the server stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut rounds = interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shared.stopping.cancelled() => return,
            _ = rounds.tick() => {}
        }
        let expired = tokio::select! {
            // What is left half done is swept at the next start.
            () = shared.stopping.cancelled() => return,
            expired = shared.expire() => expired,
        };
        if let Err(error) = expired {
            tracing::warn!(%error, "what has been kept long enough could not be deleted; it is tried again");
        }
    }
}

impl Shared {
    async fn expire(&self) -> Result<(), StoreError> {
        let Retention { checkpoints, jobs } = self.config.retention;
        if let Some(age) = jobs {
            while self.delete_old(age).await? {}
        }
        if let Some(age) = checkpoints {
            while self.delete_old_checkpoints(age).await? {}
        }
        Ok(())
    }

    /// Deletes some jobs; false when none is left that may go. One from which an open job starts waits for a later round.
    async fn delete_old(&self, age: Duration) -> Result<bool, StoreError> {
        let mut any = false;
        for job in self.store.ended_before(age, BATCH).await? {
            match self.delete(&job).await {
                Err(StoreError::ModelInUse { .. }) => continue,
                deleted => any |= deleted?,
            }
            tracing::info!(job.id = %job.id, "a job was kept long enough and is deleted");
        }
        Ok(any)
    }

    /// Forgets an ended job with all that it has left, and what is known of its experiment's intervals; false when there is none that
    /// has ended.
    pub(crate) async fn delete(&self, job: &Job) -> Result<bool, StoreError> {
        let deleted = self.store.delete_job(job).await?;
        if let Some(part) = job.part.as_ref().filter(|_| deleted) {
            self.intervals.forget(&part.experiment);
        }
        Ok(deleted)
    }

    /// The same for the checkpoints of jobs.
    async fn delete_old_checkpoints(&self, age: Duration) -> Result<bool, StoreError> {
        let mut any = false;
        for job in self.store.with_checkpoints_before(age, BATCH).await? {
            if self.store.delete_checkpoints(&job).await? {
                any = true;
                tracing::info!(job.id = %job, "a job's checkpoints were kept long enough and are deleted");
            }
        }
        Ok(any)
    }
}
