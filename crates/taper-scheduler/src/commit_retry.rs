use std::time::Duration;

use taper_core::{ErrorCode, JobError, JobState, Level};
use taper_store::{Change, Job, Store, StoreError, Transition};
use tokio_util::sync::CancellationToken;

pub(crate) const RETRY: Duration = Duration::from_secs(1);

/// Makes a transition happen even when the disk is full for a while: a job must not be left in a state that is no longer true.
pub(crate) async fn commit(
    store: &Store,
    stopping: &CancellationToken,
    transition: Transition,
) -> Result<Option<Job>, StoreError> {
    loop {
        match store.transition(transition.clone()).await {
            Err(error) if error.may_pass() && !stopping.is_cancelled() => {
                tracing::warn!(job.id = %transition.job, %error, "a job's new state could not be kept; it is tried again");
                tokio::time::sleep(RETRY).await;
            }
            committed => return committed,
        }
    }
}

/// The end of a job with an error.
pub(crate) fn failed(job: &Job, from: &'static [JobState], error: JobError) -> Transition {
    Transition {
        job: job.id.clone(),
        from,
        attempt: Some(job.attempt),
        to: JobState::Failed,
        level: Level::Error,
        message: format!("The job failed: {}", error.message),
        change: Change {
            // A retry would find the same ones and fail again.
            drop_checkpoints: error.code == ErrorCode::CheckpointCorrupt,
            error: Some(error),
            ..Change::default()
        },
    }
}
