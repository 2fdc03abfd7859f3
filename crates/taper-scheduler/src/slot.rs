//! A place of the executor, and the loop that keeps it busy.

use std::sync::Arc;

use taper_core::{Control, JobState, RequestedAction, Stop};
use taper_store::{Job, Store, StoreError};
use tokio_util::sync::CancellationToken;

use crate::{
    attempt_error::AttemptError,
    attempts::Attempts,
    commit_retry::commit,
    conclusion::Conclusion,
    executors::{AttemptId, Executor, Place, ReportReceiver, Reports},
    preparation::Preparation,
    queue::{Claimed, Queue},
    recorder::Recorder,
    reservations::Reservation,
    watchdog::{Ended, Watchdog},
};

/// What all slots use.
pub(crate) struct Attendants {
    pub(crate) store: Store,
    pub(crate) queue: Arc<Queue>,
    pub(crate) attempts: Arc<Attempts>,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) watchdog: Arc<Watchdog>,
    pub(crate) preparation: Preparation,
    pub(crate) conclusion: Conclusion,
    pub(crate) stopping: CancellationToken,
}

pub(crate) struct Slot {
    pub(crate) attendants: Arc<Attendants>,
    /// Which of the executor's places it is.
    pub(crate) index: usize,
    pub(crate) place: Place,
}

/// What one round of a slot has come to.
#[derive(Debug, PartialEq, Eq)]
enum Tick {
    /// A job was run to its end; there may be more.
    Ran,
    /// There is nothing to run.
    Idle,
}

impl Slot {
    /// Runs jobs until the server stops. It looks before it waits, so that what a crash left behind is taken up.
    pub(crate) async fn run(self) {
        let Attendants {
            queue, stopping, ..
        } = &*self.attendants;
        while !stopping.is_cancelled() {
            let tick = self.tick().await.unwrap_or_else(|error| {
                tracing::error!(device = %self.place.device, %error, "the queue could not be served");
                Tick::Idle
            });
            if tick == Tick::Idle {
                tokio::select! {
                    () = stopping.cancelled() => {}
                    () = queue.wait() => {}
                }
            }
        }
    }

    /// Claims the next job, if there is one, and runs it to its end.
    async fn tick(&self) -> Result<Tick, StoreError> {
        let with = &*self.attendants;
        let Some(Claimed {
            job,
            memory,
            is_running,
        }) = with.queue.claim().await?
        else {
            return Ok(Tick::Idle);
        };
        tracing::info!(job.id = %job.id, job.attempt = job.attempt, device = %self.place.device, "job started");
        let control = with.attempts.control_of(&job);
        if with.stopping.is_cancelled() {
            with.attempts.request_pause(&job).await;
        }
        let newest = with.conclusion.newest_checkpoint(&job).await;
        let ended = self.train(&job, &control, memory, is_running).await;
        let (mut result, is_quiet) = match ended {
            Ended::Itself(result) => (result, true),
            Ended::Abandoned(error) => (Err(error), false),
        };
        if result.is_ok() && control.requested() == Some(RequestedAction::Cancel) {
            // Who has cancelled does not want what was finished meanwhile.
            result = Err(Stop::Cancelled.into());
        }
        // Under a thread that may be alive nothing is removed, and its disk would only be waited for again.
        if is_quiet {
            let sweeping = with.store.sweep_run(&job.id, result.is_ok());
            self.tidy(&job, &control, sweeping).await;
        }
        let transition = with
            .conclusion
            .conclude(&job, &control, newest, result)
            .await;
        if transition.change.drop_checkpoints {
            // Now: once the job has ended, a retry may have new ones.
            let removing = with.store.remove_checkpoints(&job.id);
            self.tidy(&job, &control, removing).await;
        }
        let committed = commit(&with.store, &with.stopping, transition).await;
        with.attempts.forget(&job);
        match committed? {
            Some(job) => self.left(&job, &control, is_quiet).await,
            None => tracing::warn!(job.id = %job.id, "the job had moved on before its run ended"),
        }
        // Another slot may wait for this memory.
        with.queue.wake_waiting();
        Ok(Tick::Ran)
    }

    /// Does what comes after a job has left its place.
    async fn left(&self, job: &Job, control: &Control, is_quiet: bool) {
        tracing::info!(job.id = %job.id, job.state = %job.state, "job left its worker");
        if job.state == JobState::Cancelled && is_quiet {
            // The request may have come when the result was made already.
            let sweeping = self.attendants.store.sweep_run(&job.id, false);
            self.tidy(job, control, sweeping).await;
        }
        if job.state.is_terminal() {
            self.attendants.conclusion.forget(job);
        }
    }

    /// Removes what a run has left. What cannot be removed does not change how the run has ended.
    async fn tidy(
        &self,
        job: &Job,
        control: &Control,
        removing: impl Future<Output = Result<(), StoreError>>,
    ) {
        let removing = async { removing.await.map_err(AttemptError::from) };
        if let Err(error) = self.attendants.watchdog.outwait(control, removing).await {
            tracing::warn!(job.id = %job.id, %error, "a run has left something half done");
        }
    }

    /// Makes a run ready and lets the executor train. One that could not be made ready has left nothing.
    async fn train(
        &self,
        job: &Job,
        control: &Control,
        memory: Reservation,
        is_running: bool,
    ) -> Ended {
        let with = &*self.attendants;
        let place = (self.index, self.place);
        let prepared = match is_running {
            true => with.preparation.again(job, place).await,
            false => {
                let preparing = with.preparation.prepare(job, control, place);
                with.watchdog.attend(control, preparing).await
            }
        };
        let ticket = match prepared {
            Ok(ticket) => ticket,
            Err(error) => {
                if is_running {
                    self.end_unfollowed(job).await;
                }
                return Ended::Abandoned(error);
            }
        };
        let (reports, mut told) = Reports::channel();
        if let Err(refused) = with.executor.submit(ticket, reports).await {
            return Ended::Itself(Err(AttemptError::internal(refused.to_string())));
        }
        // It may have come before the executor had the attempt.
        with.attempts.repeat(job).await;
        let recorder = Recorder::start(&with.store, &with.attempts, job, &with.stopping);
        match with.watchdog.supervise(job, &mut told, &recorder).await {
            Ended::Itself(result) => {
                drop(memory);
                recorder.finish().await;
                Ended::Itself(result)
            }
            Ended::Abandoned(error) => {
                recorder.abort();
                self.abandon(job, error, memory, told).await
            }
        }
    }

    /// Ends an attempt that runs and cannot be followed any more: the next one must not train beside it.
    async fn end_unfollowed(&self, job: &Job) {
        let (executor, attempt) = (&self.attendants.executor, AttemptId::of(job));
        executor
            .request(&attempt, Some(RequestedAction::Cancel))
            .await;
        if let Err(error) = executor.abandon(&attempt).await {
            tracing::warn!(job.id = %job.id, %error, "an attempt that cannot be followed may still run");
        }
    }

    /// Leaves a run to itself. It keeps its memory until nothing of it runs any more.
    async fn abandon(
        &self,
        job: &Job,
        error: AttemptError,
        memory: Reservation,
        mut told: ReportReceiver,
    ) -> Ended {
        tracing::error!(job.id = %job.id, "a run was abandoned; what it holds of the memory is free again when its thread ends, or the server");
        memory.abandon();
        let queue = self.attendants.queue.clone();
        tokio::spawn(async move {
            // Whoever waits for an answer is told that there is none.
            while told.recv().await.is_some() {}
            drop(memory);
            queue.wake_waiting();
        });
        let freed = self.attendants.executor.abandon(&AttemptId::of(job)).await;
        Ended::Abandoned(match freed {
            Ok(()) => error,
            Err(refused) => AttemptError::internal(refused.to_string()),
        })
    }
}
