//! Which job is next.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use taper_store::{Job, Store, StoreError};
use tokio::sync::Notify;

use crate::reservations::{Reservation, Reservations};

/// The slow look at the queue that covers for a lost wake-up.
const POLL: Duration = Duration::from_secs(5);

/// The jobs that wait for a place, and the memory that they wait for.
pub(crate) struct Queue {
    store: Store,
    reservations: Reservations,
    /// Bytes of memory that jobs may take together; `None` = no limit.
    memory_limit: Option<u64>,
    /// Attempts that still run though the server has started anew.
    running: Mutex<Vec<Job>>,
    /// One claim at a time, so that two of them do not both count on the same memory.
    turn: tokio::sync::Mutex<()>,
    /// Rung when a job has been queued or memory has become free.
    changed: Notify,
}

/// A job that has been taken out of the queue.
pub(crate) struct Claimed {
    pub(crate) job: Job,
    pub(crate) memory: Reservation,
    /// Its executor has it already.
    pub(crate) is_running: bool,
}

impl Queue {
    pub(crate) fn new(
        store: Store,
        reservations: Reservations,
        memory_limit: Option<u64>,
        running: Vec<Job>,
    ) -> Self {
        Self {
            store,
            reservations,
            memory_limit,
            running: Mutex::new(running),
            turn: tokio::sync::Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Claims the next job, unless the running ones leave it too little memory: then it waits, and so do those behind it, or a large job
    /// would never have its turn.
    pub(crate) async fn claim(&self) -> Result<Option<Claimed>, StoreError> {
        let _turn = self.turn.lock().await;
        if let Some(job) = self.take_running() {
            return Ok(Some(self.claimed(job, true)));
        }
        let free = self.reservations.free(self.memory_limit);
        let job = self.store.claim_within(free).await?;
        Ok(job.map(|job| self.claimed(job, false)))
    }

    fn take_running(&self) -> Option<Job> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.pop()
    }

    fn claimed(&self, job: Job, is_running: bool) -> Claimed {
        Claimed {
            memory: self.reservations.reserve(&job),
            job,
            is_running,
        }
    }

    /// Waits until there may be something to claim.
    pub(crate) async fn wait(&self) {
        tokio::select! {
            () = self.changed.notified() => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }

    /// Tells one who waits that a job was queued.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Tells all who wait that memory has become free.
    pub(crate) fn wake_waiting(&self) {
        self.changed.notify_waiters();
    }

    /// Tells all who wait that jobs were queued, and one who is about to wait.
    pub(crate) fn wake_all(&self) {
        self.changed.notify_waiters();
        self.changed.notify_one();
    }
}
