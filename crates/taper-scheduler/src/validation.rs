use std::{sync::Arc, time::Duration};

use taper_core::{
    Command, Control, Experiment, JobSpec, JobState, Level, NewEvent, Plan, RunEvent, TrainError,
    experiment::{Budget, first_rung},
};
use taper_store::{Change, Job, Scope, StoreError, Transition};
use tokio::sync::mpsc;

use crate::{
    SchedulerError, admission,
    commit_retry::{failed, is_unkept, panic_message, settle, unkept},
    scheduler::Shared,
    watchdog,
};

/// How long a validation waits that the store has kept from being made, and how long there must be none before it is looked whether one
/// was missed.
const PAUSE: Duration = Duration::from_secs(5);

/// Validates job after job. One at a time, so that tokenizing does not take the cores from training; apart from the workers, so
/// that a long training does not keep new jobs from being looked at.
pub(crate) async fn run(shared: Arc<Shared>, mut jobs: mpsc::UnboundedReceiver<String>) {
    loop {
        let id = tokio::select! {
            () = shared.stopping.cancelled() => return,
            id = jobs.recv() => id,
            () = tokio::time::sleep(PAUSE) => {
                shared.find_missed().await;
                continue;
            }
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
                tracing::error!(job.id = %id, %error, "a validation could not be recorded; it is tried again");
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
    /// Finds jobs that nobody has sent here: a request may be dropped when its jobs are kept and not yet sent.
    async fn find_missed(&self) {
        match self.store.unvalidated_jobs().await {
            Ok(jobs) => {
                for id in jobs {
                    drop(self.unvalidated.send(id));
                }
            }
            Err(error) => tracing::warn!(%error, "jobs to validate could not be looked for"),
        }
    }

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
        let control = self.controls.of(&job);
        let checking = self.check(&job, control.clone());
        let transition = match watchdog::attend(self, &control, checking).await {
            Ok(checked) => ready(&job, checked),
            // A cancelled job has ended already; a stopped server validates it at its next start.
            Err(TrainError::Stopped(_)) => return Ok(Validated::Done),
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

    async fn check(&self, job: &Job, control: Control) -> Result<Checked, TrainError> {
        if self.stopping.is_cancelled() {
            control.give(Command::Pause);
        }
        let mut run = self.concrete(job).await?;
        let experiment = self.experiment_of(job).await?;
        let (trainer, limit) = (self.trainer.clone(), self.config.memory_limit);
        let most = self.store.limits().max_bytes;
        let checked = tokio::task::spawn_blocking(move || {
            control.check()?;
            let mut plan = trainer.check(&run, &control)?;
            if let Some((budget, steps)) = within_budget(experiment.as_ref(), &plan, &run.spec) {
                let whole = plan.total_steps;
                run.spec.training.max_steps = steps as i64;
                plan = trainer.check(&run, &control)?;
                plan.warnings.extend(budget.warning(steps, whole));
            }
            if let Some(limit) = limit {
                admission::check(&*trainer, limit, &run, &plan)?;
            }
            admission::check_disk(most, &run, &plan)?;
            Ok(Checked {
                pause_at_step: experiment.and_then(|it| first_rung(&it, plan.total_steps)),
                spec: run.spec,
                plan,
            })
        });
        checked.await.unwrap_or_else(|error| Err(panicked(error)))
    }

    /// The experiment that a job is a part of.
    async fn experiment_of(&self, job: &Job) -> Result<Option<Experiment>, TrainError> {
        let Some(part) = &job.part else {
            return Ok(None);
        };
        let found = self
            .store
            .experiment(&Scope::from(&job.project), &part.experiment)
            .await;
        Ok(found.map_err(|error| unkept(&error))?.map(|it| it.spec))
    }

    /// A job's run, as far as it is known before it is given to a worker.
    pub(crate) async fn concrete(&self, job: &Job) -> Result<taper_core::RunSpec, TrainError> {
        let sources = match self.find_sources(&job.spec, &job.project).await {
            Ok(sources) => sources,
            Err(SchedulerError::Spec(error)) => return Err(error.into()),
            Err(SchedulerError::Store(error)) => return Err(unkept(&error)),
            Err(error) => return Err(internal(error.to_string())),
        };
        let mut run = self.run_spec(job.spec.clone(), sources);
        run.job_id.clone_from(&job.id);
        run.attempt = job.attempt;
        run.run_dir = self.store.run_dir(&job.id);
        run.pause_at_step = job.pause_at_step;
        Ok(run)
    }
}

/// What the validation of a job has told.
struct Checked {
    plan: Plan,
    /// The job's, cut to its experiment's budget.
    spec: JobSpec,
    pause_at_step: Option<u64>,
}

/// The budget by which an experiment cuts a run, and the steps that it leaves.
fn within_budget(
    experiment: Option<&Experiment>,
    plan: &Plan,
    spec: &JobSpec,
) -> Option<(Budget, u64)> {
    let budget = experiment?.budget?;
    Some((budget, budget.steps(plan, &spec.training)?))
}

fn ready(job: &Job, checked: Checked) -> Transition {
    let Checked {
        plan,
        spec,
        pause_at_step,
    } = checked;
    let mut events = vec![NewEvent::from(RunEvent::Planned(plan.clone()))];
    let warnings = plan.warnings.iter();
    events.extend(warnings.map(|warning| NewEvent::message(Level::Warn, &warning.message)));
    Transition {
        job: job.id.clone(),
        from: &[JobState::ValidatingFiles],
        attempt: None,
        to: JobState::Queued,
        level: Level::Info,
        message: "Files validated, moving job to queued state".to_owned(),
        change: Change {
            events,
            plan: Some(plan),
            spec: (spec != job.spec).then_some(spec),
            pause_at_step,
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
