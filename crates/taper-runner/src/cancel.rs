use std::{sync::Arc, time::Duration};

use taper_core::{Command, Event, JobState, Level};
use taper_store::{Change, Job, Transition};
use tokio::sync::broadcast;

use crate::{Runner, RunnerError};

/// How long a request waits for a running job to stop.
const PATIENCE: Duration = Duration::from_secs(2);
/// States in which no worker has the job, so that it ends at once.
const IDLE: &[JobState] = &[
    JobState::ValidatingFiles,
    JobState::Queued,
    JobState::Paused,
];

impl Runner {
    /// Cancels a job; for a running one it waits up to 2 s for the worker and shows the state of that moment.
    ///
    /// # Errors
    /// [`RunnerError::WrongState`] when the job has ended otherwise.
    pub async fn cancel(&self, id: &str) -> Result<Job, RunnerError> {
        loop {
            let job = self.find(id).await?;
            match job.state {
                JobState::Cancelled => return Ok(job),
                JobState::Succeeded | JobState::Failed => {
                    return Err(RunnerError::WrongState {
                        id: job.id,
                        state: job.state,
                        action: "cancelled",
                    });
                }
                JobState::Running => {
                    let job = self.stop(job).await?;
                    // A shutdown may have put it back into the queue meanwhile.
                    if !IDLE.contains(&job.state) {
                        return Ok(job);
                    }
                }
                JobState::ValidatingFiles | JobState::Queued | JobState::Paused => {
                    // The state may have changed since it was read; then it is looked at again.
                    if let Some(job) = self.end(&job).await? {
                        return Ok(job);
                    }
                }
            }
        }
    }

    async fn find(&self, id: &str) -> Result<Job, RunnerError> {
        let job = self.shared.store.job(id).await?;
        job.ok_or_else(|| RunnerError::NoJob(id.to_owned()))
    }

    async fn end(&self, job: &Job) -> Result<Option<Job>, RunnerError> {
        let transition = Transition {
            job: job.id.clone(),
            from: IDLE,
            attempt: None,
            to: JobState::Cancelled,
            level: Level::Info,
            message: "The job was cancelled".to_owned(),
            change: Change::default(),
        };
        let ended = self.shared.store.transition(transition).await?;
        if ended.is_some() {
            // Its validation may be under way.
            self.shared.controls.of(&job.id).give(Command::Cancel);
            self.shared.controls.forget(&job.id);
        }
        Ok(ended)
    }

    async fn stop(&self, job: Job) -> Result<Job, RunnerError> {
        let events = self.shared.store.subscribe();
        self.shared.controls.of(&job.id).give(Command::Cancel);
        // A job that takes longer is shown as it is: running, and about to stop.
        drop(tokio::time::timeout(PATIENCE, next_state(events, &job.id)).await);
        let job = self.find(&job.id).await?;
        if job.state.is_terminal() {
            self.shared.controls.forget(&job.id);
        }
        Ok(job)
    }
}

/// Waits until a running job tells that it has left that state, or until that may have been missed.
async fn next_state(mut events: broadcast::Receiver<Arc<Event>>, job: &str) {
    while let Ok(event) = events.recv().await {
        // Its start may be told only now, since the database knows of it first.
        let left = event
            .state()
            .is_some_and(|state| state != JobState::Running);
        if event.job_id == job && left {
            return;
        }
    }
}
