//! What the end of a run means for its job.

use std::sync::Arc;

use taper_core::{
    Control, ErrorCode, JobError, JobState, Level, NewEvent, Outcome, Reason, RequestedAction, Stop,
};
use taper_store::{Change, Job, JobResult, Scope, Store, StoreError, Transition};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    attempt_error::{AttemptError, Tries},
    commit_retry::{RETRY, failed},
    shortage::{self, FruitlessPauses},
    watchdog::Watchdog,
};

/// A table of a run's steps under OpenAI's header; it is handed out as a file, not as an artifact.
const STEP_TABLE: &str = "result.csv";
const RUNNING: &[JobState] = &[JobState::Running];

pub(crate) struct Conclusion {
    pub(crate) store: Store,
    pub(crate) watchdog: Arc<Watchdog>,
    pub(crate) pauses: FruitlessPauses,
    pub(crate) stopping: CancellationToken,
}

impl Conclusion {
    /// The transition that a run's end makes. `newest` is the checkpoint that the job had when the run began.
    pub(crate) async fn conclude(
        &self,
        job: &Job,
        control: &Control,
        newest: Option<String>,
        result: Result<Outcome, AttemptError>,
    ) -> Transition {
        match result {
            Ok(outcome) => {
                let keeping = self.keep_result(job, control, &outcome);
                match self.watchdog.outwait(control, keeping).await {
                    Ok(result) => succeeded(job, result),
                    Err(error) => self.broken(job, newest, error).await,
                }
            }
            // Where a user has paused or cancelled it, the store follows that.
            Err(AttemptError::Stopped(Stop::Paused)) if self.stopping.is_cancelled() => {
                let message = "The server is stopping; the job will go on after its next start";
                ended(job, JobState::Queued, message)
            }
            Err(AttemptError::Stopped(Stop::Paused)) => self.paused(job, control, newest).await,
            Err(AttemptError::Stopped(Stop::Reached)) => {
                let message =
                    "The job has come to its rung and waits for the others of its experiment";
                let mut paused = ended(job, JobState::Paused, message);
                paused.change.reason = Some(Reason::Rung);
                paused
            }
            Err(AttemptError::Stopped(Stop::Cancelled)) => {
                ended(job, JobState::Cancelled, "The job was cancelled")
            }
            Err(error) => self.broken(job, newest, error).await,
        }
    }

    /// The id of a job's newest checkpoint, if it can be told.
    pub(crate) async fn newest_checkpoint(&self, job: &Job) -> Option<String> {
        let known = self.store.checkpoints(job, None, 1).await;
        known.ok()?.data.pop().map(|checkpoint| checkpoint.id)
    }

    /// Forgets what is known of an ended job.
    pub(crate) fn forget(&self, job: &Job) {
        self.pauses.forget(&job.id);
    }

    /// What an error means for its job.
    async fn broken(&self, job: &Job, newest: Option<String>, error: AttemptError) -> Transition {
        match error {
            AttemptError::StoreUnavailable(error) => {
                tracing::warn!(job.id = %job.id, %error, "a run goes back into the queue");
                shortage::requeued(job, self.store.shortage())
            }
            AttemptError::Failed(error) if error.code == ErrorCode::NoSpace => {
                tracing::warn!(job.id = %job.id, %error, "a run had no space");
                self.without_space(job, newest, error).await
            }
            AttemptError::Failed(error) => failed(job, RUNNING, error),
            AttemptError::Stopped(stop) => {
                failed(job, RUNNING, JobError::internal(stop.to_string()))
            }
        }
    }

    /// What it means that a run had no space. Once its own files have gone there may be some again, so that it is tried again; not for
    /// ever, since it may be they that do not fit.
    async fn without_space(
        &self,
        job: &Job,
        newest: Option<String>,
        error: JobError,
    ) -> Transition {
        let shortage = self.store.look_at_disk().await;
        let shortage = shortage.unwrap_or_else(|_| self.store.shortage());
        let moved = self.newest_checkpoint(job).await != newest;
        if self.pauses.is_one_too_many(&job.id, moved, shortage) {
            return failed(job, RUNNING, error);
        }
        shortage::requeued(job, shortage)
    }

    /// What a pause means that the server does not stop for: the watchdog's, since the store follows a user's by itself, and one that a
    /// user has taken back leads into the queue.
    async fn paused(&self, job: &Job, control: &Control, newest: Option<String>) -> Transition {
        if control.requested().is_none() || self.is_requested(job).await {
            let message = "The pause was taken back; the job goes on from where it left its worker";
            return ended(job, JobState::Queued, message);
        }
        self.without_space(job, newest, shortage::no_space()).await
    }

    /// Tells whether a user waits for the job to leave its worker.
    async fn is_requested(&self, job: &Job) -> bool {
        let job = self.store.job(&Scope::All, &job.id).await;
        job.is_ok_and(|job| job.is_some_and(|job| job.requested.is_some()))
    }

    /// Keeps what a run has made. A disk that is full for a moment must not cost the run, so it is tried until somebody stops the job or
    /// the server.
    async fn keep_result(
        &self,
        job: &Job,
        control: &Control,
        outcome: &Outcome,
    ) -> Result<JobResult, AttemptError> {
        let mut tries = Tries::default();
        loop {
            let wanted = control.requested() != Some(RequestedAction::Cancel)
                && !self.stopping.is_cancelled();
            control.heartbeat();
            let kept = self.result_of(job, control, outcome).await;
            match kept.map_err(|error| tries.count(error.into())) {
                Err(AttemptError::StoreUnavailable(error)) if wanted => {
                    tracing::warn!(job.id = %job.id, %error, "a result could not be kept; it is tried again");
                    sleep(RETRY).await;
                }
                result => return result,
            }
        }
    }

    async fn result_of(
        &self,
        job: &Job,
        control: &Control,
        outcome: &Outcome,
    ) -> Result<JobResult, StoreError> {
        let mut artifacts = self.store.survey_output(&job.id, control).await?;
        let mut result_files = Vec::new();
        if artifacts.iter().any(|artifact| artifact.path == STEP_TABLE) {
            artifacts.retain(|artifact| artifact.path != STEP_TABLE);
            let output = self.store.run_dir(&job.id).join("output");
            let table = output.join(STEP_TABLE);
            let kept = self
                .store
                .keep_result_file(&job.project, "step_metrics.csv", &table);
            result_files.push(kept.await?);
        }
        Ok(JobResult {
            fine_tuned_model: job.tuned_model_name(),
            trained_tokens: outcome.trained_tokens,
            metrics: outcome.metrics.clone(),
            artifacts,
            result_files,
        })
    }
}

fn succeeded(job: &Job, result: JobResult) -> Transition {
    let made = format!("New fine-tuned model created: {}", result.fine_tuned_model);
    Transition {
        change: Change {
            events: vec![NewEvent::message(Level::Info, made)],
            result: Some(result),
            ..Change::default()
        },
        ..ended(
            job,
            JobState::Succeeded,
            "The job has successfully completed",
        )
    }
}

fn ended(job: &Job, to: JobState, message: &str) -> Transition {
    Transition {
        job: job.id.clone(),
        from: RUNNING,
        attempt: Some(job.attempt),
        to,
        level: Level::Info,
        message: message.to_owned(),
        change: Change::default(),
    }
}
