//! What users do to jobs.

use std::{sync::Arc, time::Duration};

use taper_core::{Action, JobState, Level, Reason, RequestedAction};
use taper_store::{Change, Job, LiveEvents, Scope, Store, StoreError, Transition};
use tokio::{
    sync::broadcast::error::RecvError,
    time::{Instant, timeout_at},
};

use crate::{
    attempts::Attempts, error::SchedulerError, queue::Queue, validation_queue::ValidationQueue,
};

/// How long a request waits for jobs to leave their places.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) struct Actions {
    pub(crate) store: Store,
    pub(crate) attempts: Arc<Attempts>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) validations: ValidationQueue,
}

impl Actions {
    pub(crate) async fn cancel(&self, scope: &Scope, id: &str) -> Result<Job, SchedulerError> {
        self.stop(scope, id, Action::Cancel, RequestedAction::Cancel)
            .await
    }

    pub(crate) async fn pause(&self, scope: &Scope, id: &str) -> Result<Job, SchedulerError> {
        self.stop(scope, id, Action::Pause, RequestedAction::Pause)
            .await
    }

    pub(crate) async fn resume(&self, scope: &Scope, id: &str) -> Result<Job, SchedulerError> {
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

    pub(crate) async fn retry(&self, scope: &Scope, id: &str) -> Result<Job, SchedulerError> {
        let job = self.find(scope, id, Action::Retry).await?;
        let to = match job.plan {
            Some(_) => JobState::Queued,
            None => JobState::ValidatingFiles,
        };
        let retried = self.take_up(&job, Action::Retry, to).await?;
        retried.ok_or_else(|| refused(job, Action::Retry))
    }

    pub(crate) async fn prioritize(
        &self,
        scope: &Scope,
        id: &str,
        priority: i32,
    ) -> Result<Job, SchedulerError> {
        let job = self.find(scope, id, Action::Reprioritize).await?;
        let changed = self.store.prioritize(&job, priority).await?;
        changed.ok_or_else(|| refused(job, Action::Reprioritize))
    }

    pub(crate) async fn delete(&self, scope: &Scope, id: &str) -> Result<(), SchedulerError> {
        let job = self.find(scope, id, Action::Delete).await?;
        if self.store.delete_job(&job).await? {
            return Ok(());
        }
        // Another deletion or a retry came between.
        let job = self.find(scope, id, Action::Delete).await?;
        Err(refused(job, Action::Delete))
    }

    /// Passes on to those at work what the store has been asked of jobs, and waits a little for them. The others have left already.
    pub(crate) async fn follow(
        &self,
        stopped: Vec<Job>,
        events: LiveEvents,
    ) -> Result<(), StoreError> {
        let mut held = Vec::new();
        for job in stopped {
            match job.requested {
                Some(action) => {
                    if job.state == JobState::Running {
                        self.attempts.request(&job, action).await;
                    }
                    held.push(job);
                }
                None => self.end_validation(&job).await,
            }
        }
        self.wait_until_left(events, held).await
    }

    /// Lets jobs stay at work that were to be paused, and has those that are queued taken up.
    pub(crate) async fn follow_resume(&self, staying: &[Job]) {
        self.attempts.withdraw_pauses(staying).await;
        self.queue.wake_all();
    }

    /// The job, if the action is possible in its state or has happened already.
    async fn find(&self, scope: &Scope, id: &str, action: Action) -> Result<Job, SchedulerError> {
        let job = self.store.job(scope, id).await?;
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
        requested: RequestedAction,
    ) -> Result<Job, SchedulerError> {
        loop {
            let job = self.find(scope, id, action).await?;
            let is_at_rung =
                requested == RequestedAction::Pause && job.reason == Some(Reason::Rung);
            if action.is_done(job.state) && !is_at_rung {
                return Ok(job);
            }
            // A validation that is cut short has told nothing: a pause waits for it.
            let held = match job.state {
                JobState::Running => true,
                JobState::ValidatingFiles => requested == RequestedAction::Pause,
                _ => false,
            };
            let stopped = if is_at_rung {
                self.store.hold(&job).await?
            } else if held {
                self.request(&job, requested).await?
            } else {
                self.take_out(&job, action, requested).await?
            };
            // The state may have changed since it was read; then it is looked at again.
            if let Some(job) = stopped {
                return Ok(job);
            }
        }
    }

    /// Asks for what the job's worker or validation has to do, and waits a little for it.
    async fn request(
        &self,
        job: &Job,
        action: RequestedAction,
    ) -> Result<Option<Job>, SchedulerError> {
        let events = self.store.subscribe(&Scope::from(&job.project));
        let Some(held) = self.store.request(job, action).await? else {
            return Ok(None);
        };
        // A job that takes longer is shown as it is: running, and about to stop.
        self.follow(vec![held], events).await?;
        let now = self.store.job(&Scope::All, &job.id).await?;
        Ok(Some(
            now.ok_or_else(|| SchedulerError::NoJob(job.id.clone()))?,
        ))
    }

    /// Changes the state of a job that nobody is at work on.
    async fn take_out(
        &self,
        job: &Job,
        action: Action,
        requested: RequestedAction,
    ) -> Result<Option<Job>, SchedulerError> {
        let (to, from): (_, &[_]) = match requested {
            RequestedAction::Pause => (JobState::Paused, &[JobState::Queued]),
            RequestedAction::Cancel => (
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
            .store
            .transition(transition(job, from, to, message))
            .await?;
        if ended.is_some() {
            self.end_validation(job).await;
        }
        Ok(ended)
    }

    /// Ends the validation of a job that has left: it may be under way.
    async fn end_validation(&self, job: &Job) {
        self.attempts.request(job, RequestedAction::Cancel).await;
        self.attempts.forget(job);
    }

    async fn take_up(
        &self,
        job: &Job,
        action: Action,
        to: JobState,
    ) -> Result<Option<Job>, SchedulerError> {
        let store = &self.store;
        let begins = match store.checkpoints(job, None, 1).await?.data.first() {
            Some(checkpoint) => format!("goes on from step {}", checkpoint.step),
            None => "begins at the start".to_owned(),
        };
        let message = format!("The job was {} and {begins}", action.done());
        let taken_up = store
            .transition(transition(job, action.from(), to, message))
            .await?;
        match taken_up.as_ref().map(|job| job.state) {
            Some(JobState::Queued) => self.queue.wake(),
            Some(_) => self.validations.send(&job.id),
            None => {}
        }
        Ok(taken_up)
    }

    /// Waits a little until jobs have left the state that they are in. One that takes longer is shown as it is.
    async fn wait_until_left(
        &self,
        mut events: LiveEvents,
        mut held: Vec<Job>,
    ) -> Result<(), StoreError> {
        let end = Instant::now() + PATIENCE;
        while !held.is_empty() {
            let mut still = Vec::new();
            for job in held {
                let now = self.store.job(&Scope::All, &job.id).await?;
                match now.is_some_and(|now| now.state == job.state) {
                    true => still.push(job),
                    false => self.attempts.forget(&job),
                }
            }
            held = still;
            let change = a_change(&mut events, &held);
            if held.is_empty() || timeout_at(end, change).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
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

/// Waits until one of the jobs tells of a state, or until that may have been missed.
async fn a_change(events: &mut LiveEvents, jobs: &[Job]) {
    loop {
        match events.recv().await {
            Ok(event) => {
                let is_one = || jobs.iter().any(|job| job.id == event.job_id);
                if event.state().is_some() && is_one() {
                    return;
                }
            }
            Err(RecvError::Lagged(_)) => return,
            // The store is closed; the server stops.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}
