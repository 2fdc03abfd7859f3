//! Watches a run from outside and steps in where it cannot help itself: it hangs, takes too long, or nothing can be written.

use std::{pin::pin, sync::Arc, time::Duration};

use taper_core::{Control, ErrorCode, JobError, Outcome, RequestedAction, Stop, TrainError};
use taper_store::{Job, Store};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    attempt_error::AttemptError,
    attempts::Attempts,
    executors::{Report, ReportReceiver},
    recorder::Recorder,
};

/// The time between two looks.
const TICK: Duration = Duration::from_secs(1);
/// The most that one look may count. When the whole process was stopped, the clock has gone on and the run could not.
const MOST: Duration = Duration::from_secs(2);

/// How long runs may take.
#[derive(Debug, Clone, Copy, Default)]
pub struct Patience {
    /// A run that does not move for so long has failed; `None` = never.
    pub stuck_after: Option<Duration>,
    /// A run that takes longer has failed, with its checkpoint kept; `None` = never.
    pub run_timeout: Option<Duration>,
}

/// How a run has ended for the scheduler.
pub(crate) enum Ended {
    Itself(Result<Outcome, AttemptError>),
    /// Nobody waits for it any more. A thread may still be at work on it, which must not be used again.
    Abandoned(AttemptError),
}

/// Waits for work, with patience.
pub(crate) struct Watchdog {
    pub(crate) store: Store,
    pub(crate) attempts: Arc<Attempts>,
    pub(crate) patience: Patience,
    pub(crate) stopping: CancellationToken,
}

impl Watchdog {
    /// Waits for a run's end, and has kept what it tells.
    pub(crate) async fn supervise(
        &self,
        job: &Job,
        reports: &mut ReportReceiver,
        recorder: &Recorder,
    ) -> Ended {
        let mut heartbeats = 0;
        let mut watch = Watch::new(self.patience, heartbeats);
        let mut ticks = ticks();
        loop {
            tokio::select! {
                report = reports.recv() => {
                    heartbeats += 1;
                    match report {
                        Some(Report::Heartbeat) => {}
                        Some(Report::Event(event)) => recorder.event(event),
                        Some(Report::Checkpoint(files, reply)) => recorder.checkpoint(files, reply),
                        Some(Report::Ended(result)) => return Ended::Itself(watch.judge(result)),
                        None => return Ended::Itself(Err(lost())),
                    }
                    continue;
                }
                _ = ticks.tick() => {}
            }
            if watch.look(heartbeats) == Sight::Stuck {
                return Ended::Abandoned(watch.stuck().into());
            }
            if watch.overdue || self.store.shortage().is_some() {
                self.attempts.request_pause(job).await;
            }
        }
    }

    /// Waits for the work before or beside a run, which reads files and models. It is abandoned when it does not move, for its disk may
    /// not answer, within a second when the job is to leave its place, and at once when the server stops.
    pub(crate) async fn attend<T>(
        &self,
        control: &Control,
        work: impl Future<Output = Result<T, AttemptError>>,
    ) -> Result<T, AttemptError> {
        let patience = Patience {
            run_timeout: None,
            ..self.patience
        };
        let mut watch = Watch::new(patience, control.heartbeats());
        let mut ticks = ticks();
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = self.stopping.cancelled() => return Err(Stop::Paused.into()),
                _ = ticks.tick() => {}
            }
            control.peek()?;
            if watch.look(control.heartbeats()) == Sight::Stuck {
                control.request(RequestedAction::Cancel);
                return Err(watch.unanswered().into());
            }
        }
    }

    /// Waits for the work after a run, on the disk that the run has written to. Only one that does not answer ends it: what is kept there
    /// is a whole run's.
    pub(crate) async fn outwait<T>(
        &self,
        control: &Control,
        work: impl Future<Output = Result<T, AttemptError>>,
    ) -> Result<T, AttemptError> {
        let mut watch = Watch::new(self.patience, control.heartbeats());
        let mut work = pin!(work);
        loop {
            if let Ok(done) = timeout(TICK, &mut work).await {
                return done;
            }
            if watch.look(control.heartbeats()) == Sight::Stuck {
                return Err(watch.unanswered().into());
            }
        }
    }
}

fn ticks() -> Interval {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn lost() -> AttemptError {
    AttemptError::internal("the worker thread is gone")
}

#[derive(Debug, PartialEq, Eq)]
enum Sight {
    Alive,
    Stuck,
}

/// What has been seen of a run.
struct Watch {
    patience: Patience,
    last_look: Instant,
    heartbeats: u64,
    ran: Duration,
    silent: Duration,
    overdue: bool,
}

impl Watch {
    fn new(patience: Patience, heartbeats: u64) -> Self {
        Self {
            patience,
            last_look: Instant::now(),
            heartbeats,
            ran: Duration::ZERO,
            silent: Duration::ZERO,
            overdue: false,
        }
    }

    /// Looks at how many heartbeats there have been.
    fn look(&mut self, heartbeats: u64) -> Sight {
        let now = Instant::now();
        let passed = now.duration_since(self.last_look).min(MOST);
        self.last_look = now;
        self.ran += passed;
        if heartbeats == self.heartbeats {
            self.silent += passed;
        } else {
            self.heartbeats = heartbeats;
            self.silent = Duration::ZERO;
        }
        let over = |most: Option<Duration>, time| most.is_some_and(|most| time > most);
        self.overdue |= over(self.patience.run_timeout, self.ran);
        if over(self.patience.stuck_after, self.silent) {
            Sight::Stuck
        } else {
            Sight::Alive
        }
    }

    fn judge(&self, result: Result<Outcome, TrainError>) -> Result<Outcome, AttemptError> {
        match result {
            Err(TrainError::Stopped(Stop::Paused)) if self.overdue => Err(self.timed_out().into()),
            result => Ok(result?),
        }
    }

    fn timed_out(&self) -> JobError {
        let most = self.patience.run_timeout.unwrap_or_default().as_secs();
        let message = format!(
            "the run took longer than the {most} s that the server's run-timeout allows; its checkpoint is kept, a retry goes on from there"
        );
        JobError::new(ErrorCode::RunTimeout, message)
    }

    fn stuck(&self) -> JobError {
        let silent = self.silent.as_secs();
        let message = format!(
            "the run has not moved for {silent} s and was given up; a retry goes on from its last checkpoint"
        );
        JobError::new(ErrorCode::Stuck, message)
    }

    fn unanswered(&self) -> JobError {
        let silent = self.silent.as_secs();
        let message = format!(
            "the job's model, files or checkpoint could not be read within {silent} s; look at the disks that they lie on, then retry the job"
        );
        JobError::new(ErrorCode::Stuck, message)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const PATIENCE: Patience = Patience {
        stuck_after: Some(Duration::from_secs(10)),
        run_timeout: Some(Duration::from_secs(60)),
    };

    #[tokio::test(start_paused = true)]
    async fn silence_counts_only_while_the_process_runs() {
        let mut watch = Watch::new(PATIENCE, 0);
        // A stop of an hour counts as one look.
        advance(Duration::from_secs(3600)).await;
        assert_eq!(watch.look(0), Sight::Alive);
        for _ in 0..8 {
            advance(TICK).await;
            assert_eq!(watch.look(0), Sight::Alive);
        }
        advance(TICK).await;
        assert_eq!(watch.look(1), Sight::Alive);
        for _ in 0..10 {
            advance(TICK).await;
            assert_eq!(watch.look(1), Sight::Alive);
        }
        advance(TICK).await;
        assert_eq!(watch.look(1), Sight::Stuck);
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_moves_is_overdue_in_time() {
        let mut watch = Watch::new(PATIENCE, 0);
        for heartbeats in 1..=60 {
            advance(TICK).await;
            watch.look(heartbeats);
        }
        assert!(!watch.overdue);
        advance(TICK).await;
        watch.look(60);
        assert!(watch.overdue);
        let stopped = watch.judge(Err(Stop::Paused.into()));
        assert!(
            matches!(&stopped, Err(AttemptError::Failed(error)) if error.code == ErrorCode::RunTimeout),
            "{stopped:?}"
        );
        let cancelled = watch.judge(Err(Stop::Cancelled.into()));
        assert!(matches!(
            cancelled,
            Err(AttemptError::Stopped(Stop::Cancelled))
        ));
    }
}
