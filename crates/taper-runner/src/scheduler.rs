use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt, sync::Arc, time::Duration};

use taper_core::{
    Command, Control, Device, JobState, Level, NewEvent, Outcome, RunSpec, Stop, TrainError,
};
use taper_store::{Change, Job, JobResult, StoreError, Transition};

use crate::{
    report,
    runner::Shared,
    settle::{failed, settle},
    validation::internal,
    watchdog::{self, Ended},
    worker::{Assignment, Worker},
};

/// The slow look at the queue that covers for a lost wake-up.
const POLL: Duration = Duration::from_secs(5);
/// A table of a run's steps under OpenAI's header; it is handed out as a file, not as an artifact.
const STEP_TABLE: &str = "result.csv";
const RUNNING: &[JobState] = &[JobState::Running];

/// A device with its worker, and the loop that keeps it busy.
pub(crate) struct Slot {
    shared: Arc<Shared>,
    worker: Worker,
    device: Device,
}

/// What one round of a slot has come to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tick {
    /// A job was run to its end; there may be more.
    Ran,
    /// There is nothing to run.
    Idle,
}

impl Slot {
    pub(crate) fn new(shared: Arc<Shared>, worker: Worker, device: Device) -> Self {
        Self {
            shared,
            worker,
            device,
        }
    }

    /// Runs jobs until the server stops. It looks before it waits, so that what a crash left behind is taken up.
    pub(crate) async fn run(mut self) {
        while !self.shared.stopping.is_cancelled() {
            let tick = self.tick().await.unwrap_or_else(|error| {
                tracing::error!(device = %self.device, %error, "the queue could not be served");
                Tick::Idle
            });
            if tick == Tick::Idle {
                tokio::select! {
                    () = self.shared.stopping.cancelled() => {}
                    () = self.shared.queued.notified() => {}
                    () = tokio::time::sleep(POLL) => {}
                }
            }
        }
        let joined = tokio::task::spawn_blocking(move || self.worker.join()).await;
        joined.unwrap_or_else(|error| tracing::error!(%error, "a worker could not be joined"));
    }

    /// Claims the next job, if there is one, and runs it to its end.
    pub(crate) async fn tick(&mut self) -> Result<Tick, StoreError> {
        let Some((job, held)) = self.shared.claim().await? else {
            return Ok(Tick::Idle);
        };
        tracing::info!(job.id = %job.id, job.attempt = job.attempt, device = %self.device, "job started");
        let control = self.shared.controls.of(&job);
        if self.shared.stopping.is_cancelled() && control.command() == Command::Continue {
            control.give(Command::Pause);
        }
        let mut result = self.train(&job, &control).await;
        if result.is_ok() && control.command() == Command::Cancel {
            // Who has cancelled does not want what was finished meanwhile.
            result = Err(Stop::Cancelled.into());
        }
        if let Err(error) = self.shared.store.sweep_run(&job.id, result.is_ok()).await {
            tracing::warn!(job.id = %job.id, %error, "a run has left something half done");
        }
        let transition = self.conclude(&job, result).await;
        match settle(&self.shared, transition).await? {
            Some(job) => {
                tracing::info!(job.id = %job.id, job.state = %job.state, "job left its worker");
            }
            None => tracing::warn!(job.id = %job.id, "the job had moved on before its run ended"),
        }
        self.shared.controls.forget(&job);
        drop(held);
        // Another slot may wait for this memory.
        self.shared.queued.notify_waiters();
        Ok(Tick::Ran)
    }

    async fn train(&mut self, job: &Job, control: &Control) -> Result<Outcome, TrainError> {
        let run = self.prepare(job).await?;
        let (sink, reporter) = report::line(&self.shared.store, job, control);
        let reporter = tokio::spawn(reporter.run());
        let assignment = Assignment {
            trainer: self.shared.trainer.clone(),
            run,
            sink,
            control: control.clone(),
        };
        let ending = self.worker.begin(assignment)?;
        let result = watchdog::supervise(&self.shared, control, ending).await;
        let result = match result {
            Ended::Itself(result) => result,
            Ended::Abandoned(error) => {
                reporter.abort();
                self.worker = self.worker.another().map_err(|e| internal(e.to_string()))?;
                return Err(error);
            }
        };
        // The last events must stand in the log before the end does.
        if let Err(error) = reporter.await {
            tracing::error!(job.id = %job.id, %error, "the reporter of a run broke down");
        }
        result
    }

    async fn prepare(&self, job: &Job) -> Result<RunSpec, TrainError> {
        let refused = |error: &dyn std::error::Error| internal(error.to_string());
        let mut run = self.shared.concrete(job).await?;
        run.device = self.device;
        run.resume_from = self.shared.resume_point(job, &run).await?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&run.run_dir)
            .map_err(|error| refused(&error))?;
        Ok(run)
    }

    /// What the end of a run means for its job.
    async fn conclude(&self, job: &Job, result: Result<Outcome, TrainError>) -> Transition {
        match result {
            Ok(outcome) => match self.result_of(job, outcome).await {
                Ok(result) => succeeded(job, result),
                Err(error) => failed(job, RUNNING, internal(error.to_string())),
            },
            // Where a user has paused or cancelled it, the store follows that.
            Err(TrainError::Stopped(Stop::Paused)) if self.shared.stopping.is_cancelled() => {
                let message = "The server is stopping; the job will go on after its next start";
                ended(job, JobState::Queued, message)
            }
            Err(TrainError::Stopped(Stop::Paused)) => {
                watchdog::held(job, self.shared.store.shortage())
            }
            Err(TrainError::Stopped(Stop::Cancelled)) => {
                ended(job, JobState::Cancelled, "The job was cancelled")
            }
            Err(error) => match watchdog::shortage_behind(&self.shared, &error).await {
                Some(shortage) => watchdog::held(job, Some(shortage)),
                None => failed(job, RUNNING, error),
            },
        }
    }

    async fn result_of(&self, job: &Job, outcome: Outcome) -> Result<JobResult, StoreError> {
        let store = &self.shared.store;
        let mut artifacts = store.survey_output(&job.id).await?;
        let mut result_files = Vec::new();
        if artifacts.iter().any(|artifact| artifact.path == STEP_TABLE) {
            artifacts.retain(|artifact| artifact.path != STEP_TABLE);
            let table = store.run_dir(&job.id).join("output").join(STEP_TABLE);
            result_files.push(store.keep_result_file("step_metrics.csv", &table).await?);
        }
        Ok(JobResult {
            fine_tuned_model: job.spec.tuned_model_name(&job.id),
            trained_tokens: outcome.trained_tokens,
            metrics: outcome.metrics,
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
