use std::sync::{Arc, PoisonError};

use taper_core::{JobSpec, Plan, Project, Trainer};
use taper_store::{Job, LiveEvents, NewJob, Scope, Store, StoreError};
use tokio_util::sync::CancellationToken;

use crate::{
    config::SchedulerConfig, error::SchedulerError, executors::Executor, model_folders::Model,
    parts::Parts, recovery::recover,
};

/// A handle to the scheduler; clones share it. What it is asked for is done by the owners that it is put together from.
#[derive(Clone)]
pub struct Scheduler(Arc<Parts>);

impl Scheduler {
    /// Recovers what the last server left, then begins to validate and to run.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn start(
        store: Store,
        trainer: Arc<dyn Trainer>,
        executor: Arc<dyn Executor>,
        config: SchedulerConfig,
    ) -> Result<Self, SchedulerError> {
        let running = recover(&store, &*executor).await?;
        let unvalidated = store.unvalidated_jobs().await?;
        let parts = Parts::start(store, trainer, executor, config, running);
        for job in unvalidated {
            parts.validations.send(&job);
        }
        Ok(Self(Arc::new(parts)))
    }

    /// Stops the runs; they go back into the queue, without that counting as a crash.
    pub async fn shutdown(&self) {
        let parts = &self.0;
        parts.stopping.cancel();
        parts.attempts.pause_all().await;
        let tasks =
            std::mem::take(&mut *parts.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the scheduler broke down");
            }
        }
        parts.executor.close().await;
    }

    /// Is cancelled when the scheduler is told to stop.
    pub fn stopping(&self) -> CancellationToken {
        self.0.stopping.clone()
    }

    /// Accepts a job after a quick look at its model and files.
    ///
    /// # Errors
    /// [`SchedulerError::Spec`] with the field that is wrong.
    pub async fn submit(&self, job: impl Into<NewJob>) -> Result<Job, SchedulerError> {
        self.0.submission.submit(job.into()).await
    }

    /// A quick look at the model and files of a specification, as for a submission; answers with every value in force.
    ///
    /// # Errors
    /// [`SchedulerError::Spec`] with the field that is wrong.
    pub async fn inspect(
        &self,
        spec: JobSpec,
        project: &Project,
    ) -> Result<JobSpec, SchedulerError> {
        self.0.submission.inspect(spec, project).await
    }

    /// What a job of a project would do and take; nothing is kept.
    ///
    /// # Errors
    /// [`SchedulerError::Spec`] with the field that is wrong, as for a real submission.
    pub async fn plan(&self, project: &Project, spec: JobSpec) -> Result<Plan, SchedulerError> {
        self.0.submission.plan(project, spec).await
    }

    /// Has jobs validated that somebody else has put into the store.
    pub fn validate(&self, jobs: &[Job]) {
        for job in jobs {
            self.0.validations.send(&job.id);
        }
    }

    /// Cancels a job; for a running one it waits up to 2 s for the worker and shows the state of that moment.
    ///
    /// # Errors
    /// [`SchedulerError::WrongState`] when the job has ended otherwise.
    pub async fn cancel(&self, scope: &Scope, id: &str) -> Result<Job, SchedulerError> {
        self.0.actions.cancel(scope, id).await
    }

    /// Pauses a job: a running one leaves a checkpoint, one that is being validated does not enter the queue. For both it waits up to
    /// 2 s and shows the state of that moment. One that waits at a rung stays there until it is resumed.
    ///
    /// # Errors
    /// [`SchedulerError::WrongState`] when the job has ended.
    pub async fn pause(&self, scope: &Scope, id: &str) -> Result<Job, SchedulerError> {
        self.0.actions.pause(scope, id).await
    }

    /// Puts a paused job back into the queue.
    ///
    /// # Errors
    /// [`SchedulerError::WrongState`] when the job is not paused; [`SchedulerError::AtRung`] when it waits for the others of its
    /// experiment.
    pub async fn resume(&self, scope: &Scope, id: &str) -> Result<Job, SchedulerError> {
        self.0.actions.resume(scope, id).await
    }

    /// Puts a failed job back into the queue, to go on from its last checkpoint; one that failed in its validation is validated again.
    ///
    /// # Errors
    /// [`SchedulerError::WrongState`] when the job has not failed.
    pub async fn retry(&self, scope: &Scope, id: &str) -> Result<Job, SchedulerError> {
        self.0.actions.retry(scope, id).await
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
        self.0.actions.prioritize(scope, id, priority).await
    }

    /// Forgets an ended job with its model and all that it has left.
    ///
    /// # Errors
    /// [`SchedulerError::WrongState`] when the job has not ended.
    pub async fn delete(&self, scope: &Scope, id: &str) -> Result<(), SchedulerError> {
        self.0.actions.delete(scope, id).await
    }

    /// Passes on to those at work what the store was asked of several jobs at once, and waits up to 2 s for them to leave. `events` must
    /// have been subscribed to before.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn follow(&self, stopped: Vec<Job>, events: LiveEvents) -> Result<(), StoreError> {
        self.0.actions.follow(stopped, events).await
    }

    /// Lets jobs stay at work that were to be paused, and has those taken up that were put back into the queue.
    pub async fn follow_resume(&self, staying: &[Job]) {
        self.0.actions.follow_resume(staying).await;
    }

    /// Has jobs taken up that somebody else has put into the queue.
    pub fn look_at_queue(&self) {
        self.0.queue.wake_all();
    }

    /// Lists all models: folders by name, which are everybody's, then tuned ones of the scope, newest first.
    ///
    /// # Errors
    /// When the models directory cannot be read.
    pub async fn models(&self, scope: &Scope) -> Result<Vec<Model>, SchedulerError> {
        self.0.models.list(scope).await
    }

    /// Finds a model by its id; checkpoints have ids as well.
    ///
    /// # Errors
    /// [`SchedulerError::NoModel`] when there is none of that name.
    pub async fn model(&self, scope: &Scope, id: &str) -> Result<Model, SchedulerError> {
        self.0.models.find(scope, id).await
    }

    /// Deletes what a job has made, a model or a checkpoint.
    ///
    /// # Errors
    /// [`SchedulerError::NoModel`]; [`SchedulerError::NotDeletable`] for a folder of the models directory; a model in use.
    pub async fn delete_model(&self, scope: &Scope, id: &str) -> Result<(), SchedulerError> {
        self.0.models.delete(scope, id).await
    }

    /// How many jobs can run beside each other.
    pub fn places(&self) -> usize {
        self.0.executor.places().len()
    }

    /// Runs that were abandoned and have not ended. They hold their memory, until the end of the server at the latest.
    pub fn abandoned_runs(&self) -> u64 {
        self.0.reservations.abandoned()
    }
}
