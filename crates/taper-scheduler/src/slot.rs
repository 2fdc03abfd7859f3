use std::{sync::Arc, time::Duration};

use taper_core::{
    Command, Control, Device, JobState, Level, NewEvent, Outcome, Reason, RunSpec, Stop, TrainError,
};
use taper_store::{Change, Job, JobResult, Scope, StoreError, Transition};
use tokio::time::sleep;

use crate::{
    commit_retry::{RETRY, Tries, failed, is_unkept, settle, unkept},
    ledger::Held,
    report,
    scheduler::Shared,
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
        let newest = self.newest_checkpoint(&job).await;
        let (mut result, is_quiet) = match self.train(&job, &control, held).await {
            Ended::Itself(result) => (result, true),
            Ended::Abandoned(error) => (Err(error), false),
        };
        if result.is_ok() && control.command() == Command::Cancel {
            // Who has cancelled does not want what was finished meanwhile.
            result = Err(Stop::Cancelled.into());
        }
        // Under a thread that may be alive nothing is removed, and its disk would only be waited for again.
        if is_quiet {
            let sweeping = self.shared.store.sweep_run(&job.id, result.is_ok());
            self.tidy(&job, &control, sweeping).await;
        }
        let transition = self.conclude(&job, &control, newest, result).await;
        if transition.change.drop_checkpoints {
            // Now: once the job has ended, a retry may have new ones.
            let removing = self.shared.store.remove_checkpoints(&job.id);
            self.tidy(&job, &control, removing).await;
        }
        let settled = settle(&self.shared, transition).await;
        self.shared.controls.forget(&job);
        match settled? {
            Some(job) => {
                tracing::info!(job.id = %job.id, job.state = %job.state, "job left its worker");
                if job.state == JobState::Cancelled && is_quiet {
                    // A wish may have come when the result was made already.
                    let sweeping = self.shared.store.sweep_run(&job.id, false);
                    self.tidy(&job, &control, sweeping).await;
                }
                if job.state.is_terminal() {
                    self.shared.pauses.forget(&job.id);
                }
            }
            None => tracing::warn!(job.id = %job.id, "the job had moved on before its run ended"),
        }
        // Another slot may wait for this memory.
        self.shared.queued.notify_waiters();
        Ok(Tick::Ran)
    }

    /// Removes what a run has left. What cannot be removed does not change how the run has ended.
    async fn tidy(
        &self,
        job: &Job,
        control: &Control,
        removing: impl Future<Output = Result<(), StoreError>>,
    ) {
        let removing = async { removing.await.map_err(|error| unkept(&error)) };
        if let Err(error) = watchdog::outwait(&self.shared, control, removing).await {
            tracing::warn!(job.id = %job.id, %error, "a run has left something half done");
        }
    }

    /// Makes a run ready and lets the worker train. One that could not be made ready has left nothing.
    async fn train(&mut self, job: &Job, control: &Control, held: Held) -> Ended {
        let preparing = self.prepare(job, control);
        let run = match watchdog::attend(&self.shared, control, preparing).await {
            Ok(run) => run,
            Err(error) => return Ended::Abandoned(error),
        };
        let (sink, reporter) = report::line(&self.shared, job, control);
        let reporter = tokio::spawn(reporter.run());
        let assignment = Assignment {
            trainer: self.shared.trainer.clone(),
            run,
            sink,
            control: control.clone(),
            held,
        };
        let ending = match self.worker.begin(assignment) {
            Ok(ending) => ending,
            Err(error) => return Ended::Itself(Err(error)),
        };
        let ended = watchdog::supervise(&self.shared, control, ending).await;
        if let Ended::Abandoned(_) = ended {
            tracing::error!(job.id = %job.id, "a run was given up; what it holds of the memory is free again when its thread ends, or the server");
            self.shared.memory.give_up(job);
            reporter.abort();
            return match self.worker.another() {
                Ok(worker) => {
                    self.worker = worker;
                    ended
                }
                Err(error) => Ended::Abandoned(internal(error.to_string())),
            };
        }
        // The last events must stand in the log before the end does.
        if let Err(error) = reporter.await {
            tracing::error!(job.id = %job.id, %error, "the reporter of a run broke down");
        }
        ended
    }

    /// Makes a run ready. What the store refuses for now is tried again while nothing better can be done.
    async fn prepare(&self, job: &Job, control: &Control) -> Result<RunSpec, TrainError> {
        let mut tries = Tries::default();
        loop {
            control.beat();
            let prepared = self.try_to_prepare(job, control).await;
            match prepared.map_err(|error| tries.count(error)) {
                Err(error) if is_unkept(&error) && self.may_wait(control) => {
                    tracing::warn!(job.id = %job.id, %error, "a run could not be prepared; it is tried again");
                    sleep(RETRY).await;
                }
                prepared => return prepared,
            }
        }
    }

    /// Tells whether a run may go on waiting in its slot: nobody wants it to leave, and the queue is no better place.
    fn may_wait(&self, control: &Control) -> bool {
        control.command() == Command::Continue
            && !self.shared.stopping.is_cancelled()
            && self.shared.store.shortage().is_none()
    }

    async fn try_to_prepare(&self, job: &Job, control: &Control) -> Result<RunSpec, TrainError> {
        let mut run = self.shared.concrete(job).await?;
        run.device = self.device;
        run.resume_from = self.shared.resume_point(job, &run, control).await?;
        let made = self.shared.store.make_run_dir(&job.id).await;
        made.map_err(|error| unkept(&error))?;
        Ok(run)
    }

    /// The id of a job's newest checkpoint, if it can be told.
    async fn newest_checkpoint(&self, job: &Job) -> Option<String> {
        let known = self.shared.store.checkpoints(job, None, 1).await;
        known.ok()?.data.pop().map(|checkpoint| checkpoint.id)
    }

    /// What the end of a run means for its job.
    async fn conclude(
        &self,
        job: &Job,
        control: &Control,
        newest: Option<String>,
        result: Result<Outcome, TrainError>,
    ) -> Transition {
        match result {
            Ok(outcome) => {
                let keeping = self.keep_result(job, control, &outcome);
                match watchdog::outwait(&self.shared, control, keeping).await {
                    Ok(result) => succeeded(job, result),
                    Err(error) => self.broken(job, newest, error).await,
                }
            }
            // Where a user has paused or cancelled it, the store follows that.
            Err(TrainError::Stopped(Stop::Paused)) if self.shared.stopping.is_cancelled() => {
                let message = "The server is stopping; the job will go on after its next start";
                ended(job, JobState::Queued, message)
            }
            Err(TrainError::Stopped(Stop::Paused)) => self.paused(job, control, newest).await,
            Err(TrainError::Stopped(Stop::Reached)) => {
                let message =
                    "The job has come to its rung and waits for the others of its experiment";
                let mut paused = ended(job, JobState::Paused, message);
                paused.change.reason = Some(Reason::Rung);
                paused
            }
            Err(TrainError::Stopped(Stop::Cancelled)) => {
                ended(job, JobState::Cancelled, "The job was cancelled")
            }
            Err(error) => self.broken(job, newest, error).await,
        }
    }

    /// What an error means for its job.
    async fn broken(&self, job: &Job, newest: Option<String>, error: TrainError) -> Transition {
        if is_unkept(&error) {
            tracing::warn!(job.id = %job.id, %error, "a run goes back into the queue");
            return watchdog::held(job, self.shared.store.shortage());
        }
        if watchdog::is_without_space(&error) {
            tracing::warn!(job.id = %job.id, %error, "a run had no space");
            return self.without_space(job, newest, error).await;
        }
        failed(job, RUNNING, error)
    }

    /// What it means that a run had no space. Once its own files have gone there may be some again, so that it is tried again; not for
    /// ever, since it may be they that do not fit.
    async fn without_space(
        &self,
        job: &Job,
        newest: Option<String>,
        error: TrainError,
    ) -> Transition {
        let shortage = self.shared.store.look_at_disk().await;
        let shortage = shortage.unwrap_or_else(|_| self.shared.store.shortage());
        let moved = self.newest_checkpoint(job).await != newest;
        let pauses = &self.shared.pauses;
        if pauses.is_one_too_many(&job.id, moved, shortage) {
            return failed(job, RUNNING, error);
        }
        watchdog::held(job, shortage)
    }

    /// What a pause means that the server does not stop for: the watchdog's, since the store follows a user's by itself, and one that a
    /// user has taken back leads into the queue.
    async fn paused(&self, job: &Job, control: &Control, newest: Option<String>) -> Transition {
        if control.command() == Command::Continue || self.is_wished(job).await {
            let message = "The pause was taken back; the job goes on from where it left its worker";
            return ended(job, JobState::Queued, message);
        }
        self.without_space(job, newest, watchdog::no_space()).await
    }

    /// Tells whether a user waits for the job to leave its worker.
    async fn is_wished(&self, job: &Job) -> bool {
        let job = self.shared.store.job(&Scope::All, &job.id).await;
        job.is_ok_and(|job| job.is_some_and(|job| job.wish.is_some()))
    }

    /// Keeps what a run has made. It is not made again for a disk that is full for a moment: only who stops the job or the server ends
    /// the tries.
    async fn keep_result(
        &self,
        job: &Job,
        control: &Control,
        outcome: &Outcome,
    ) -> Result<JobResult, TrainError> {
        let mut tries = Tries::default();
        loop {
            let wanted =
                control.command() != Command::Cancel && !self.shared.stopping.is_cancelled();
            control.beat();
            let kept = self.result_of(job, control, outcome).await;
            match kept.map_err(|error| tries.count(unkept(&error))) {
                Err(error) if is_unkept(&error) && wanted => {
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
        let store = &self.shared.store;
        let mut artifacts = store.survey_output(&job.id, control).await?;
        let mut result_files = Vec::new();
        if artifacts.iter().any(|artifact| artifact.path == STEP_TABLE) {
            artifacts.retain(|artifact| artifact.path != STEP_TABLE);
            let table = store.run_dir(&job.id).join("output").join(STEP_TABLE);
            let kept = store.keep_result_file(&job.project, "step_metrics.csv", &table);
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
