use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use taper_core::{Event, JobState};

/// What the store has done since it was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commits: AtomicU64,
    pub(crate) failed_commits: AtomicU64,
    pub(crate) commit_micros: AtomicU64,
    pub(crate) succeeded: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) cancelled: AtomicU64,
}

impl Counters {
    pub(crate) fn committed(&self, took: Duration) {
        self.commits.fetch_add(1, Relaxed);
        let micros = took.as_micros().try_into().unwrap_or(u64::MAX);
        self.commit_micros.fetch_add(micros, Relaxed);
    }

    pub(crate) fn not_committed(&self) {
        self.failed_commits.fetch_add(1, Relaxed);
    }

    /// Counts the end of a job.
    pub(crate) fn count_end(&self, event: &Event) {
        let ended = match event.state() {
            Some(JobState::Succeeded) => &self.succeeded,
            Some(JobState::Failed) => &self.failed,
            Some(JobState::Cancelled) => &self.cancelled,
            _ => return,
        };
        ended.fetch_add(1, Relaxed);
    }
}
