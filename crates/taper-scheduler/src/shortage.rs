//! Runs that have had no space.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use taper_core::{ErrorCode, JobError, JobState, Level};
use taper_store::{Change, Job, Shortage, Transition};

/// Pauses in a row that a job may make for a shortage without having a new checkpoint after it.
const MOST_FRUITLESS: u32 = 3;

/// Jobs that have left their place for a shortage which was over with the run, and have got no further by it: it may be their own files
/// that do not fit, and each new start would only try it again.
#[derive(Debug, Default)]
pub(crate) struct FruitlessPauses(Mutex<HashMap<String, u32>>);

impl FruitlessPauses {
    /// Notes how a pause has ended, and tells whether there were too many like it.
    pub(crate) fn is_one_too_many(
        &self,
        job: &str,
        moved: bool,
        shortage: Option<Shortage>,
    ) -> bool {
        let mut pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if moved {
            pauses.remove(job);
            return false;
        }
        if shortage.is_some() {
            // It waits for that in the queue.
            return false;
        }
        let count = pauses.entry(job.to_owned()).or_default();
        *count += 1;
        *count >= MOST_FRUITLESS
    }

    pub(crate) fn forget(&self, job: &str) {
        let mut pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pauses.remove(job);
    }
}

/// The end of a job whose checkpoint does not fit.
pub(crate) fn no_space() -> JobError {
    let message = format!(
        "{MOST_FRUITLESS} times there was no space for the run's checkpoint, and enough without it; a retry goes on from the last one that was kept"
    );
    JobError::new(ErrorCode::NoSpace, message)
}

/// Puts a run back into the queue, where it waits for space; `None` = there is some again.
pub(crate) fn requeued(job: &Job, shortage: Option<Shortage>) -> Transition {
    let message = match shortage {
        Some(shortage) => format!(
            "There is no space: {shortage}. The job waits in the queue and goes on from its checkpoint once there is"
        ),
        None => {
            "There was no space or no database for a moment; the job goes on from its checkpoint"
                .to_owned()
        }
    };
    Transition {
        job: job.id.clone(),
        from: &[JobState::Running],
        attempt: Some(job.attempt),
        to: JobState::Queued,
        level: Level::Warn,
        message,
        change: Change::default(),
    }
}
