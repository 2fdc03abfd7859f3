//! What the last server has left: which of its attempts still run, and what becomes of the others.

use taper_core::RequestedAction;
use taper_store::{Job, Scope, Store, StoreError};
use tokio::time::sleep;

use crate::{
    commit_retry::RETRY,
    executors::{AttemptId, Executor},
};

/// Compares the jobs that are running by their rows with the attempts that the executor sees. Those that it does not see go back into
/// the queue, or fail after too many crashes; those that nobody wants any more are cancelled. Answers with the jobs that still run.
pub(crate) async fn recover(
    store: &Store,
    executor: &dyn Executor,
) -> Result<Vec<Job>, StoreError> {
    let mut seen = survey(executor).await;
    let attempts = seen.iter().map(|it| (it.job.clone(), it.attempt));
    let recovered = store.recover_unseen(attempts.collect()).await?;
    if !(recovered.queued.is_empty() && recovered.failed.is_empty()) {
        tracing::warn!(?recovered, "jobs were running when the last server ended");
    }
    let mut running = Vec::new();
    for id in &recovered.running {
        running.extend(store.job(&Scope::All, id).await?);
    }
    seen.retain(|attempt| !running.iter().any(|job| AttemptId::of(job) == *attempt));
    for unwanted in &seen {
        tracing::warn!(attempt = %unwanted, "an attempt runs that nobody wants any more; it is cancelled");
        executor
            .request(unwanted, Some(RequestedAction::Cancel))
            .await;
    }
    Ok(running)
}

/// An executor that does not answer says nothing about its attempts, so it is waited for.
async fn survey(executor: &dyn Executor) -> Vec<AttemptId> {
    loop {
        match executor.survey().await {
            Ok(seen) => return seen,
            Err(error) => {
                tracing::warn!(%error, "what still runs is not known; it is asked again");
                sleep(RETRY).await;
            }
        }
    }
}
