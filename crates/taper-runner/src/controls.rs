use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use taper_core::{Command, Control};

/// The lines to the jobs that are being validated or trained. Whoever asks first makes one; it is forgotten when the job has ended.
#[derive(Debug, Default)]
pub(crate) struct Controls(Mutex<HashMap<String, Control>>);

impl Controls {
    pub(crate) fn of(&self, job: &str) -> Control {
        self.lock().entry(job.to_owned()).or_default().clone()
    }

    pub(crate) fn forget(&self, job: &str) {
        self.lock().remove(job);
    }

    /// Asks all to leave their devices; a wish to cancel stands.
    pub(crate) fn pause_all(&self) {
        for control in self.lock().values() {
            if control.command() == Command::Continue {
                control.give(Command::Pause);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Control>> {
        // A map of flags cannot be left half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
