use std::{sync::Arc, time::Duration};

use taper_store::{ExperimentRecord, Job, Scope, StoreError};
use tokio::time::{MissedTickBehavior, interval};

use crate::scheduler::Shared;

/// The time between two rounds; the first comes at the start.
const ROUND: Duration = Duration::from_secs(60 * 60);
/// Jobs looked for at once.
const BATCH: u32 = 100;

/// How long things are kept after a job has ended.
#[derive(Debug, Clone, Copy, Default)]
pub struct Retention {
    /// Checkpoints; `None` = for ever.
    pub checkpoints: Option<Duration>,
    /// The job with all that it has made, and those of an experiment together; `None` = for ever.
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

    /// Deletes some jobs; false when none is left that may go. One from which an open job starts waits for a later round, and with it
    /// its experiment.
    async fn delete_old(&self, age: Duration) -> Result<bool, StoreError> {
        let mut any = false;
        for job in self.store.ended_before(age, BATCH).await? {
            let deleted = match &job.part {
                Some(part) => self.delete_whole(&part.experiment).await,
                None => self.delete(&job).await,
            };
            match deleted {
                Err(StoreError::ModelInUse { .. }) => continue,
                deleted => any |= deleted?,
            }
            tracing::info!(job.id = %job.id, "a job was kept long enough and is deleted, with its experiment if it has one");
        }
        Ok(any)
    }

    async fn delete_whole(&self, experiment: &str) -> Result<bool, StoreError> {
        match self.store.experiment(&Scope::All, experiment).await? {
            Some(record) => self.delete_experiment(&record).await,
            None => Ok(false),
        }
    }

    /// Forgets an experiment of which all jobs have ended, with what they have left and what is known of its intervals; false when there
    /// is none.
    pub(crate) async fn delete_experiment(
        &self,
        record: &ExperimentRecord,
    ) -> Result<bool, StoreError> {
        let deleted = self.store.delete_experiment(record).await?;
        if deleted {
            self.intervals.forget(&record.id);
        }
        Ok(deleted)
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
