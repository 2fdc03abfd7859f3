//! The memory that running jobs hold, and what it leaves to the next one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use taper_store::{FreeMemory, Job, StoreError};

use crate::{
    Scheduler,
    controls::{Key, key},
    scheduler::Shared,
};

/// What each running job holds.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    shares: Shares,
    /// One claim at a time, so that two of them do not both count on the same memory.
    turn: tokio::sync::Mutex<()>,
}

type Shares = Arc<Mutex<HashMap<Key, Share>>>;

/// A running job's part of the memory.
#[derive(Debug, Clone, Copy)]
struct Share {
    bytes: u64,
    /// Nobody waits for the run any more, and it has not ended.
    is_given_up: bool,
}

/// A running job's memory, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    run: Key,
    of: Shares,
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.of).remove(&self.run);
    }
}

fn lock(shares: &Shares) -> MutexGuard<'_, HashMap<Key, Share>> {
    shares.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    fn hold(&self, job: &Job) -> Held {
        let share = Share {
            bytes: job.plan.as_ref().map_or(0, |plan| plan.memory.total()),
            is_given_up: false,
        };
        lock(&self.shares).insert(key(job), share);
        Held {
            run: key(job),
            of: self.shares.clone(),
        }
    }

    /// Notes that nobody waits for a job's run any more.
    pub(crate) fn give_up(&self, job: &Job) {
        if let Some(share) = lock(&self.shares).get_mut(&key(job)) {
            share.is_given_up = true;
        }
    }

    /// What is left of `limit` bytes.
    fn free(&self, limit: Option<u64>) -> FreeMemory {
        let shares = lock(&self.shares);
        let held = shares.values().map(|share| share.bytes).sum();
        let given_up = shares.values().filter(|share| share.is_given_up);
        match (limit, held) {
            // What runs alone was admitted.
            (None, _) | (_, 0) => FreeMemory::UNLIMITED,
            (Some(limit), held) => FreeMemory {
                bytes: limit.saturating_sub(held),
                given_up: given_up.map(|share| share.bytes).sum(),
            },
        }
    }
}

impl Scheduler {
    /// Runs that were given up and have not ended. They hold their memory, until the end of the server at the latest.
    pub fn given_up_runs(&self) -> u64 {
        let shares = lock(&self.shared.memory.shares);
        shares.values().filter(|share| share.is_given_up).count() as u64
    }
}

impl Shared {
    /// Claims the next job of the queue, unless the running ones leave it too little memory: then it waits, and so do those behind
    /// it, or a large job would never have its turn.
    pub(crate) async fn claim(&self) -> Result<Option<(Job, Held)>, StoreError> {
        let _turn = self.memory.turn.lock().await;
        let free = self.memory.free(self.config.memory_limit);
        let Some(job) = self.store.claim_within(free).await? else {
            return Ok(None);
        };
        let held = self.memory.hold(&job);
        Ok(Some((job, held)))
    }
}
