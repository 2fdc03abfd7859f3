use std::{sync::Arc, time::Duration};

use taper_core::{Command, JobState, Level, NewEvent, Plan, RunEvent, Stop, TrainError};
use taper_store::{Change, Job, Scope, StoreError, Transition};
use tokio::sync::mpsc;

use crate::{
    RunnerError, admission,
    runner::Shared,
    settle::{failed, is_unkept, panic_message, settle, unkept},
};

/// How long a validation waits that the store has kept from being made.
const PAUSE: Duration = Duration::from_secs(5);

/// Validates job after job. One at a time, so that tokenizing does not take the cores from training; apart from the workers, so
/// that a long training does not keep new jobs from being looked at.
pub(crate) async fn run(shared: Arc<Shared>, mut jobs: mpsc::UnboundedReceiver<String>) {
    loop {
        let id = tokio::select! {
            () = shared.stopping.cancelled() => return,
            id = jobs.recv() => id,
        };
        let Some(id) = id else { return };
        match shared.validate(&id).await {
            Ok(Validated::Done) => {}
            Ok(Validated::Unkept) => shared.validate_later(id),
            Err(error) if error.may_pass() => {
                tracing::error!(job.id = %id, %error, "a validation could not be made; it is tried again");
                shared.validate_later(id);
            }
            Err(error) => {
                tracing::error!(job.id = %id, %error, "a validation could not be recorded; the next start repeats it");
            }
        }
    }
}

/// What has become of a validation.
enum Validated {
    Done,
    /// The store did not answer; nothing is known.
    Unkept,
}

impl Shared {
    /// Sends a job back to be validated after a pause; a server that stops meanwhile validates it at its next start.
    fn validate_later(&self, id: String) {
        let unvalidated = self.unvalidated.clone();
        tokio::spawn(async move {
            tokio::time::sleep(PAUSE).await;
            drop(unvalidated.send(id));
        });
    }

    async fn validate(&self, id: &str) -> Result<Validated, StoreError> {
        let Some(job) = self.store.job(&Scope::All, id).await? else {
            return Ok(Validated::Done);
        };
        if job.state != JobState::ValidatingFiles {
            return Ok(Validated::Done);
        }
        let transition = match self.check(&job).await {
            Ok(plan) => ready(&job, plan),
            // A cancelled job has ended already; a stopped server validates it at its next start.
            Err(TrainError::Stopped(Stop::Cancelled | Stop::Paused)) => return Ok(Validated::Done),
            Err(error) if is_unkept(&error) => {
                tracing::warn!(job.id = %id, %error, "a validation could not be made; it is tried again");
                return Ok(Validated::Unkept);
            }
            Err(error) => failed(&job, &[JobState::ValidatingFiles], error),
        };
        let settled = settle(self, transition).await?;
        if settled.is_some_and(|job| job.state == JobState::Queued) {
            self.queued.notify_one();
        }
        self.controls.forget(&job);
        Ok(Validated::Done)
    }

    async fn check(&self, job: &Job) -> Result<Plan, TrainError> {
        let control = self.controls.of(job);
        if self.stopping.is_cancelled() {
            control.give(Command::Pause);
        }
        let run = self.concrete(job).await?;
        let (trainer, limit) = (self.trainer.clone(), self.config.memory_limit);
        let checked = tokio::task::spawn_blocking(move || {
            control.check()?;
            let plan = trainer.check(&run, &control)?;
            if let Some(limit) = limit {
                admission::check(&*trainer, limit, &run, &plan)?;
            }
            Ok(plan)
        });
        checked.await.unwrap_or_else(|error| Err(panicked(error)))
    }

    /// A job's run, as far as it is known before it is given to a worker.
    pub(crate) async fn concrete(&self, job: &Job) -> Result<taper_core::RunSpec, TrainError> {
        let sources = match self.find_sources(&job.spec, &job.project).await {
            Ok(sources) => sources,
            Err(RunnerError::Spec(error)) => return Err(error.into()),
            Err(RunnerError::Store(error)) => return Err(unkept(&error)),
            Err(error) => return Err(internal(error.to_string())),
        };
        let mut run = self.run_spec(job.spec.clone(), sources);
        run.job_id.clone_from(&job.id);
        run.attempt = job.attempt;
        run.run_dir = self.store.run_dir(&job.id);
        Ok(run)
    }
}

fn ready(job: &Job, plan: Plan) -> Transition {
    Transition {
        job: job.id.clone(),
        from: &[JobState::ValidatingFiles],
        attempt: None,
        to: JobState::Queued,
        level: Level::Info,
        message: "Files validated, moving job to queued state".to_owned(),
        change: Change {
            events: vec![NewEvent::from(RunEvent::Planned(plan.clone()))],
            plan: Some(plan),
            ..Change::default()
        },
    }
}

fn panicked(error: tokio::task::JoinError) -> TrainError {
    match error.try_into_panic() {
        Ok(payload) => panic_message(&*payload),
        Err(error) => internal(error.to_string()),
    }
}

pub(crate) fn internal(message: String) -> TrainError {
    TrainError::Failed {
        code: "internal".to_owned(),
        message,
        param: None,
        step: None,
    }
}
