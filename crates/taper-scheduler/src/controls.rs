use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use taper_core::{Command, Control};
use taper_store::Job;
use tokio_util::sync::CancellationToken;

/// A line belongs to one attempt, so that a late command cannot reach the next one; so does its memory.
pub(crate) type Key = (String, u32);

/// The lines to the jobs that are being validated or trained. Whoever asks first makes one; it is forgotten when the attempt is over.
#[derive(Debug, Default)]
pub(crate) struct Controls(Mutex<HashMap<Key, Control>>);

impl Controls {
    pub(crate) fn of(&self, job: &Job) -> Control {
        self.lock().entry(key(job)).or_default().clone()
    }

    pub(crate) fn forget(&self, job: &Job) {
        self.lock().remove(&key(job));
    }

    /// Lets jobs stay that were to be paused, unless the server stops: then [`Controls::pause_all`] has been here, or comes.
    pub(crate) fn let_stay(&self, jobs: &[Job], stopping: &CancellationToken) {
        let controls = self.lock();
        let known = jobs.iter().filter_map(|job| controls.get(&key(job)));
        for control in known.filter(|_| !stopping.is_cancelled()) {
            control.take_back(Command::Pause);
        }
    }

    /// Asks all to leave their devices; a wish to cancel stands.
    pub(crate) fn pause_all(&self) {
        for control in self.lock().values() {
            if control.command() == Command::Continue {
                control.give(Command::Pause);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Control>> {
        // A map of flags cannot be left half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn key(job: &Job) -> Key {
    (job.id.clone(), job.attempt)
}
