//! Reads and counts a job's data before it is queued.

use std::{sync::Arc, time::Duration};

use taper_core::{
    Control, Experiment, JobSpec, JobState, Level, NewEvent, Plan, RequestedAction, RunEvent,
    Trainer,
    experiment::{Budget, first_rung},
};
use taper_store::{Change, Job, Scope, Store, StoreError, Transition};
use tokio::{sync::mpsc::UnboundedReceiver, task::JoinError};
use tokio_util::sync::CancellationToken;

use crate::{
    admission::Admission,
    attempt_error::AttemptError,
    attempts::Attempts,
    commit_retry::{commit, failed},
    executors::panicked,
    queue::Queue,
    sources::Sources,
    validation_queue::ValidationQueue,
    watchdog::Watchdog,
};

/// How long a validation waits that the store has kept from being made, and how long there must be none before it is looked whether one
/// was missed.
const PAUSE: Duration = Duration::from_secs(5);

/// Validates job after job. One at a time, so that tokenizing does not take the cores from training; apart from the workers, so
/// that a long training does not keep new jobs from being looked at.
pub(crate) struct Validation {
    pub(crate) store: Store,
    pub(crate) trainer: Arc<dyn Trainer>,
    pub(crate) sources: Arc<Sources>,
    pub(crate) admission: Admission,
    pub(crate) attempts: Arc<Attempts>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) watchdog: Arc<Watchdog>,
    pub(crate) validations: ValidationQueue,
    pub(crate) stopping: CancellationToken,
}

/// What has become of a validation.
enum Validated {
    Done,
    /// The store did not answer; nothing is known.
    StoreUnavailable,
}

impl Validation {
    /// Validates until the server stops.
    pub(crate) async fn run(self, mut jobs: UnboundedReceiver<String>) {
        loop {
            let id = tokio::select! {
                () = self.stopping.cancelled() => return,
                id = jobs.recv() => id,
                () = tokio::time::sleep(PAUSE) => {
                    self.find_missed().await;
                    continue;
                }
            };
            let Some(id) = id else { return };
            match self.validate(&id).await {
                Ok(Validated::Done) => {}
                Ok(Validated::StoreUnavailable) => self.validate_later(id),
                Err(error) if error.may_pass() => {
                    tracing::error!(job.id = %id, %error, "a validation could not be made; it is tried again");
                    self.validate_later(id);
                }
                Err(error) => {
                    tracing::error!(job.id = %id, %error, "a validation could not be recorded; it is tried again");
                }
            }
        }
    }

    /// Finds jobs that nobody has sent here: a request may be dropped when its jobs are kept and not yet sent.
    async fn find_missed(&self) {
        match self.store.unvalidated_jobs().await {
            Ok(jobs) => jobs.iter().for_each(|id| self.validations.send(id)),
            Err(error) => tracing::warn!(%error, "jobs to validate could not be looked for"),
        }
    }

    /// Sends a job back to be validated after a pause; a server that stops meanwhile validates it at its next start.
    fn validate_later(&self, id: String) {
        let validations = self.validations.clone();
        tokio::spawn(async move {
            tokio::time::sleep(PAUSE).await;
            validations.send(&id);
        });
    }

    async fn validate(&self, id: &str) -> Result<Validated, StoreError> {
        let Some(job) = self.store.job(&Scope::All, id).await? else {
            return Ok(Validated::Done);
        };
        if job.state != JobState::ValidatingFiles {
            return Ok(Validated::Done);
        }
        let control = self.attempts.control_of(&job);
        let checking = self.check(&job, control.clone());
        let transition = match self.watchdog.attend(&control, checking).await {
            Ok(checked) => ready(&job, checked),
            // A cancelled job has ended already; a stopped server validates it at its next start.
            Err(AttemptError::Stopped(_)) => return Ok(Validated::Done),
            Err(AttemptError::StoreUnavailable(error)) => {
                tracing::warn!(job.id = %id, %error, "a validation could not be made; it is tried again");
                return Ok(Validated::StoreUnavailable);
            }
            Err(AttemptError::Failed(error)) => failed(&job, &[JobState::ValidatingFiles], error),
        };
        let committed = commit(&self.store, &self.stopping, transition).await?;
        if committed.is_some_and(|job| job.state == JobState::Queued) {
            self.queue.wake();
        }
        self.attempts.forget(&job);
        Ok(Validated::Done)
    }

    async fn check(&self, job: &Job, control: Control) -> Result<Checked, AttemptError> {
        if self.stopping.is_cancelled() {
            control.request(RequestedAction::Pause);
        }
        let mut run = self.sources.run_of_job(job).await?;
        let experiment = self.experiment_of(job).await?;
        let (trainer, admission) = (self.trainer.clone(), self.admission.clone());
        let checked = tokio::task::spawn_blocking(move || {
            control.check()?;
            let mut plan = trainer.check(&run, &control)?;
            if let Some((budget, steps)) = within_budget(experiment.as_ref(), &plan, &run.spec) {
                let whole = plan.total_steps;
                run.spec.training.max_steps = steps as i64;
                plan = trainer.check(&run, &control)?;
                plan.warnings.extend(budget.warning(steps, whole));
            }
            admission.check(&run, &plan)?;
            Ok(Checked {
                pause_at_step: experiment.and_then(|it| first_rung(&it, plan.total_steps)),
                spec: run.spec,
                plan,
            })
        });
        checked
            .await
            .unwrap_or_else(|error| Err(broken_down(error)))
    }

    /// The experiment that a job is a part of.
    async fn experiment_of(&self, job: &Job) -> Result<Option<Experiment>, AttemptError> {
        let Some(part) = &job.part else {
            return Ok(None);
        };
        let scope = Scope::from(&job.project);
        let found = self.store.experiment(&scope, &part.experiment).await?;
        Ok(found.map(|it| it.spec))
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

fn broken_down(error: JoinError) -> AttemptError {
    match error.try_into_panic() {
        Ok(payload) => panicked(&*payload).into(),
        Err(error) => AttemptError::internal(error.to_string()),
    }
}
