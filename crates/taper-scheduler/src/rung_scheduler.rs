//! Decides which runs of an experiment go on: when the last run of a rung has come to it, whoever that is, and at the start, since the
//! last server may have ended in between.

use std::{sync::Arc, time::Duration};

use taper_core::JobState;
use taper_store::{LiveEvents, Scope, StoreError};
use tokio::sync::broadcast::error::RecvError;

use crate::scheduler::Shared;

/// The slow look that covers for a decision that the store did not take.
const POLL: Duration = Duration::from_secs(5);

/// Decides until the server stops. It listens before it looks, so that no run comes to its rung unseen.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut events = shared.store.subscribe(&Scope::All);
    loop {
        if let Err(error) = shared.decide_rungs().await {
            tracing::error!(%error, "what becomes of an experiment's runs could not be decided; it is tried again");
        }
        tokio::select! {
            () = shared.stopping.cancelled() => return,
            () = shared.resumed.notified() => {}
            () = tokio::time::sleep(POLL) => {}
            () = a_run_stops(&mut events) => {}
        }
    }
}

/// Waits until a job pauses or ends, or until that may have been missed.
async fn a_run_stops(events: &mut LiveEvents) {
    loop {
        match events.recv().await {
            Ok(event) => {
                let stops = |state: JobState| state == JobState::Paused || state.is_terminal();
                if event.state().is_some_and(stops) {
                    return;
                }
            }
            Err(RecvError::Lagged(_)) => return,
            // The store is closed; the server stops.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl Shared {
    async fn decide_rungs(&self) -> Result<(), StoreError> {
        for experiment in self.store.experiments_at_rung().await? {
            if self.store.decide_rung(&experiment).await? {
                self.queued.notify_waiters();
                // A worker that is about to wait hears this one.
                self.queued.notify_one();
            }
        }
        Ok(())
    }
}
