//! The memory that running jobs have reserved, and what it leaves to the next one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use taper_store::{FreeMemory, Job};

use crate::executors::AttemptId;

/// What each running job has reserved. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reservations(Arc<Mutex<HashMap<AttemptId, Share>>>);

/// A running job's part of the memory.
#[derive(Debug, Clone, Copy)]
struct Share {
    bytes: u64,
    /// Nobody waits for the run any more, and it has not ended.
    is_abandoned: bool,
}

/// A running job's memory, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    attempt: AttemptId,
    of: Reservations,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.of.lock().remove(&self.attempt);
    }
}

impl Reservation {
    /// Notes that nobody waits for the run any more. It keeps its memory until it has ended.
    pub(crate) fn abandon(&self) {
        if let Some(share) = self.of.lock().get_mut(&self.attempt) {
            share.is_abandoned = true;
        }
    }
}

impl Reservations {
    pub(crate) fn reserve(&self, job: &Job) -> Reservation {
        let share = Share {
            bytes: job.plan.as_ref().map_or(0, |plan| plan.memory.total()),
            is_abandoned: false,
        };
        let attempt = AttemptId::of(job);
        self.lock().insert(attempt.clone(), share);
        Reservation {
            attempt,
            of: self.clone(),
        }
    }

    /// Runs that were abandoned and have not ended.
    pub(crate) fn abandoned(&self) -> u64 {
        let shares = self.lock();
        shares.values().filter(|share| share.is_abandoned).count() as u64
    }

    /// What is left of `limit` bytes.
    pub(crate) fn free(&self, limit: Option<u64>) -> FreeMemory {
        let shares = self.lock();
        let reserved = shares.values().map(|share| share.bytes).sum();
        let abandoned = shares.values().filter(|share| share.is_abandoned);
        match (limit, reserved) {
            // What runs alone was admitted.
            (None, _) | (_, 0) => FreeMemory::UNLIMITED,
            (Some(limit), reserved) => FreeMemory {
                bytes: limit.saturating_sub(reserved),
                abandoned: abandoned.map(|share| share.bytes).sum(),
            },
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AttemptId, Share>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
