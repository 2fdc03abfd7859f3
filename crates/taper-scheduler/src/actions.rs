use std::time::Duration;

use taper_core::{Action, Command, JobState, Level, Reason, Wish};
use taper_store::{Change, Job, LiveEvents, Scope, Transition};

use crate::{Scheduler, SchedulerError};

/// How long a request waits for a job to leave its worker.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

impl Scheduler {
    /// Cancels a job; for a running one it waits up to 2 s for the worker and shows the state of that moment.
    ///
    /// # Errors
    /// [`SchedulerError::WrongState`] when the job has ended otherwise.
    pub async fn cancel(&self, scope: &Scope, id: &str) -> Result<Job, SchedulerError> {
        self.stop(scope, id, Action::Cancel, Wish::Cancel).await
    }

    /// Pauses a job: a running one leaves a checkpoint, one that is being validated does not enter the queue. For both it waits up to
    /// 2 s and shows the state of that moment. One that waits at a rung stays there until it is resumed.
    ///
    /// # Errors
    /// [`SchedulerError::WrongState`] when the job has ended.
    pub async fn pause(&self, scope: &Scope, id: &str) -> Result<Job, SchedulerError> {
        self.stop(scope, id, Action::Pause, Wish::Pause).await
    }

    /// Puts a paused job back into the queue.
    ///
    /// # Errors
    /// [`SchedulerError::WrongState`] when the job is not paused; [`SchedulerError::AtRung`] when it waits for the others of its experiment.
    pub async fn resume(&self, scope: &Scope, id: &str) -> Result<Job, SchedulerError> {
        let job = self.find(scope, id, Action::Resume).await?;
        if job.reason == Some(Reason::Rung) {
            let experiment = job.part.map(|part| part.experiment);
            return Err(SchedulerError::AtRung {
                id: job.id,
                experiment: experiment.unwrap_or_default(),
            });
        }
        let resumed = self.take_up(&job, Action::Resume, JobState::Queued).await?;
        resumed.ok_or_else(|| refused(job, Action::Resume))
    }

    /// Puts a failed job back into the queue, to go on from its last checkpoint; one that failed in its validation is validated again.
    ///
    /// # Errors
    /// [`SchedulerError::WrongState`] when the job has not failed.
    pub async fn retry(&self, scope: &Scope, id: &str) -> Result<Job, SchedulerError> {
        let job = self.find(scope, id, Action::Retry).await?;
        let to = match job.plan {
            Some(_) => JobState::Queued,
            None => JobState::ValidatingFiles,
        };
        let retried = self.take_up(&job, Action::Retry, to).await?;
        retried.ok_or_else(|| refused(job, Action::Retry))
    }

    /// Changes a job's place in the queue.
    ///
    /// # Errors
    /// [`SchedulerError::WrongState`] when the job has ended.
    pub async fn prioritize(
        &self,
        scope: &Scope,
        id: &str,
        priority: i32,
    ) -> Result<Job, SchedulerError> {
        let job = self.find(scope, id, Action::Reprioritize).await?;
        let changed = self.shared.store.prioritize(&job, priority).await?;
        changed.ok_or_else(|| refused(job, Action::Reprioritize))
    }

    /// Forgets an ended job with its model and all that it has left.
    ///
    /// # Errors
    /// [`SchedulerError::WrongState`] when the job has not ended.
    pub async fn delete(&self, scope: &Scope, id: &str) -> Result<(), SchedulerError> {
        let job = self.find(scope, id, Action::Delete).await?;
        if self.shared.delete(&job).await? {
            return Ok(());
        }
        // Another deletion or a retry came between.
        let job = self.find(scope, id, Action::Delete).await?;
        Err(refused(job, Action::Delete))
    }

    /// The job, if the action is possible in its state or has happened already.
    async fn find(&self, scope: &Scope, id: &str, action: Action) -> Result<Job, SchedulerError> {
        let job = self.shared.store.job(scope, id).await?;
        let job = job.ok_or_else(|| SchedulerError::NoJob(id.to_owned()))?;
        if action.from().contains(&job.state) || action.is_done(job.state) {
            Ok(job)
        } else {
            Err(refused(job, action))
        }
    }

    async fn stop(
        &self,
        scope: &Scope,
        id: &str,
        action: Action,
        wish: Wish,
    ) -> Result<Job, SchedulerError> {
        loop {
            let job = self.find(scope, id, action).await?;
            let is_at_rung = wish == Wish::Pause && job.reason == Some(Reason::Rung);
            if action.is_done(job.state) && !is_at_rung {
                return Ok(job);
            }
            // A validation that is cut short has told nothing: a pause waits for it.
            let held = match job.state {
                JobState::Running => true,
                JobState::ValidatingFiles => wish == Wish::Pause,
                _ => false,
            };
            let stopped = if is_at_rung {
                self.shared.store.hold(&job).await?
            } else if held {
                self.wish(&job, wish).await?
            } else {
                self.take_out(&job, action, wish).await?
            };
            // The state may have changed since it was read; then it is looked at again.
            if let Some(job) = stopped {
                return Ok(job);
            }
        }
    }

    /// Asks for what the job's worker or validation has to do, and waits a little for it.
    async fn wish(&self, job: &Job, wish: Wish) -> Result<Option<Job>, SchedulerError> {
        let store = &self.shared.store;
        let events = store.subscribe(&Scope::from(&job.project));
        let Some(held) = store.wish(job, wish).await? else {
            return Ok(None);
        };
        if held.state == JobState::Running {
            self.shared.controls.of(&held).give(match wish {
                Wish::Pause => Command::Pause,
                Wish::Cancel => Command::Cancel,
            });
        }
        // A job that takes longer is shown as it is: running, and about to stop.
        drop(tokio::time::timeout(PATIENCE, left(events, &held)).await);
        let job = store.job(&Scope::All, &held.id).await?;
        let job = job.ok_or_else(|| SchedulerError::NoJob(held.id.clone()))?;
        if job.state != held.state {
            self.shared.controls.forget(&held);
        }
        Ok(Some(job))
    }

    /// Changes the state of a job that nobody is at work on.
    async fn take_out(
        &self,
        job: &Job,
        action: Action,
        wish: Wish,
    ) -> Result<Option<Job>, SchedulerError> {
        let (to, from): (_, &[_]) = match wish {
            Wish::Pause => (JobState::Paused, &[JobState::Queued]),
            Wish::Cancel => (
                JobState::Cancelled,
                &[
                    JobState::ValidatingFiles,
                    JobState::Queued,
                    JobState::Paused,
                ],
            ),
        };
        let message = format!("The job was {}", action.done());
        let ended = self
            .shared
            .store
            .transition(transition(job, from, to, message));
        let ended = ended.await?;
        if ended.is_some() {
            // Its validation may be under way.
            self.shared.controls.of(job).give(Command::Cancel);
            self.shared.controls.forget(job);
        }
        Ok(ended)
    }

    async fn take_up(
        &self,
        job: &Job,
        action: Action,
        to: JobState,
    ) -> Result<Option<Job>, SchedulerError> {
        let store = &self.shared.store;
        let begins = match store.checkpoints(job, None, 1).await?.data.first() {
            Some(checkpoint) => format!("goes on from step {}", checkpoint.step),
            None => "begins at the start".to_owned(),
        };
        let message = format!("The job was {} and {begins}", action.done());
        let taken_up = store
            .transition(transition(job, action.from(), to, message))
            .await?;
        match taken_up.as_ref().map(|job| job.state) {
            Some(JobState::Queued) => self.shared.queued.notify_one(),
            // After a shutdown nobody listens any more, and the next start validates it.
            Some(_) => drop(self.shared.unvalidated.send(job.id.clone())),
            None => {}
        }
        Ok(taken_up)
    }
}

fn refused(job: Job, action: Action) -> SchedulerError {
    SchedulerError::WrongState {
        id: job.id,
        state: job.state,
        action,
    }
}

fn transition(job: &Job, from: &'static [JobState], to: JobState, message: String) -> Transition {
    Transition {
        job: job.id.clone(),
        from,
        attempt: None,
        to,
        level: Level::Info,
        message,
        change: Change::default(),
    }
}

/// Waits until a job tells that it is in another state, or until that may have been missed.
async fn left(mut events: LiveEvents, job: &Job) {
    while let Ok(event) = events.recv().await {
        // Its start may be told only now, since the database knows of it first.
        let left = event.state().is_some_and(|state| state != job.state);
        if event.job_id == job.id && left {
            return;
        }
    }
}
