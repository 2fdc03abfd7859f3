//! Watches a run from outside and steps in where it cannot help itself: it hangs, takes too long, or nothing can be written.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use taper_core::{Command, Control, JobState, Level, Outcome, Stop, TrainError};
use taper_store::{Change, Job, Shortage, Transition};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::{scheduler::Shared, worker::Ending};

/// The time between two looks.
const TICK: Duration = Duration::from_secs(1);
/// The most that one look may count. When the whole process was stopped, the clock has gone on and the run could not.
const MOST: Duration = Duration::from_secs(2);

/// The code of a run that the disk had no space for.
const NO_SPACE: &str = "no_space";
/// Pauses in a row that a job may make for a shortage without having a new checkpoint after it.
const MOST_FRUITLESS: u32 = 3;

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
    Itself(Result<Outcome, TrainError>),
    /// Nobody waits for it any more. A thread may still be at work on it, which must not be used again.
    Abandoned(TrainError),
}

/// Waits for a run's end.
pub(crate) async fn supervise(shared: &Shared, control: &Control, mut ending: Ending) -> Ended {
    let mut watch = Watch::new(shared.config.patience, control);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            result = ending.wait() => return Ended::Itself(watch.judge(result)),
            _ = ticks.tick() => {}
        }
        if watch.look(control) == Sight::Stuck {
            // Should it wake up one day, it ends at once.
            control.give(Command::Cancel);
            return Ended::Abandoned(watch.stuck());
        }
        if watch.overdue || shared.store.shortage().is_some() {
            pause(control);
        }
    }
}

/// Waits for the work before or beside a run, which reads files and models. It is given up when it does not move, for its disk may not
/// answer, within a second when the job is to leave its worker, and at once when the server stops.
pub(crate) async fn attend<T>(
    shared: &Shared,
    control: &Control,
    work: impl Future<Output = Result<T, TrainError>>,
) -> Result<T, TrainError> {
    let patience = Patience {
        run_timeout: None,
        ..shared.config.patience
    };
    let mut watch = Watch::new(patience, control);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut work = pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = shared.stopping.cancelled() => return Err(Stop::Paused.into()),
            _ = ticks.tick() => {}
        }
        control.peek()?;
        if watch.look(control) == Sight::Stuck {
            control.give(Command::Cancel);
            return Err(watch.unanswered());
        }
    }
}

/// Waits for the work after a run, on the disk that the run has written to. Only one that does not answer ends it: what is kept there is
/// a whole run's.
pub(crate) async fn outwait<T>(
    shared: &Shared,
    control: &Control,
    work: impl Future<Output = Result<T, TrainError>>,
) -> Result<T, TrainError> {
    let mut watch = Watch::new(shared.config.patience, control);
    let mut work = pin!(work);
    loop {
        if let Ok(done) = timeout(TICK, &mut work).await {
            return done;
        }
        if watch.look(control) == Sight::Stuck {
            return Err(watch.unanswered());
        }
    }
}

/// Asks for a checkpoint; a wish to cancel stands.
fn pause(control: &Control) {
    if control.command() == Command::Continue {
        control.give(Command::Pause);
    }
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
    beats: u64,
    ran: Duration,
    silent: Duration,
    overdue: bool,
}

impl Watch {
    fn new(patience: Patience, control: &Control) -> Self {
        Self {
            patience,
            last_look: Instant::now(),
            beats: control.beats(),
            ran: Duration::ZERO,
            silent: Duration::ZERO,
            overdue: false,
        }
    }

    fn look(&mut self, control: &Control) -> Sight {
        let now = Instant::now();
        let passed = now.duration_since(self.last_look).min(MOST);
        self.last_look = now;
        self.ran += passed;
        let beats = control.beats();
        if beats == self.beats {
            self.silent += passed;
        } else {
            self.beats = beats;
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

    fn judge(&self, result: Result<Outcome, TrainError>) -> Result<Outcome, TrainError> {
        match result {
            Err(TrainError::Stopped(Stop::Paused)) if self.overdue => Err(self.timed_out()),
            result => result,
        }
    }

    fn timed_out(&self) -> TrainError {
        let most = self.patience.run_timeout.unwrap_or_default().as_secs();
        let message = format!(
            "the run took longer than the {most} s that the server's run-timeout allows; its checkpoint is kept, a retry goes on from there"
        );
        failure("run_timeout", message)
    }

    fn stuck(&self) -> TrainError {
        let silent = self.silent.as_secs();
        let message = format!(
            "the run has not moved for {silent} s and was given up; a retry goes on from its last checkpoint"
        );
        failure("stuck", message)
    }

    fn unanswered(&self) -> TrainError {
        let silent = self.silent.as_secs();
        let message = format!(
            "the job's model, files or checkpoint could not be read within {silent} s; look at the disks that they lie on, then retry the job"
        );
        failure("stuck", message)
    }
}

fn failure(code: &str, message: String) -> TrainError {
    TrainError::Failed {
        code: code.to_owned(),
        message,
        param: None,
        step: None,
    }
}

/// Tells whether a run has ended because the disk was full.
pub(crate) fn is_without_space(error: &TrainError) -> bool {
    matches!(error, TrainError::Failed { code, .. } if code == NO_SPACE)
}

/// Jobs that have left their worker for a shortage which was over with the run, and have got no further by it: it may be their own files
/// that do not fit, and each new start would only try it again.
#[derive(Debug, Default)]
pub(crate) struct Pauses(Mutex<HashMap<String, u32>>);

impl Pauses {
    /// Notes how a pause has ended, and tells whether there were too many like it.
    pub(crate) fn is_one_too_many(
        &self,
        job: &str,
        moved: bool,
        shortage: Option<Shortage>,
    ) -> bool {
        let mut pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if moved {
            pauses.remove(job);
            return false;
        }
        if shortage.is_some() {
            // It waits for that in the queue.
            return false;
        }
        let count = pauses.entry(job.to_owned()).or_default();
        *count += 1;
        *count >= MOST_FRUITLESS
    }

    pub(crate) fn forget(&self, job: &str) {
        let mut pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pauses.remove(job);
    }
}

/// The end of a job whose checkpoint does not fit.
pub(crate) fn no_space() -> TrainError {
    let message = format!(
        "{MOST_FRUITLESS} times there was no space for the run's checkpoint, and enough without it; a retry goes on from the last one that was kept"
    );
    failure(NO_SPACE, message)
}

/// Puts a run back into the queue, where it waits for space; `None` = there is some again.
pub(crate) fn held(job: &Job, shortage: Option<Shortage>) -> Transition {
    let message = match shortage {
        Some(shortage) => format!(
            "There is no space: {shortage}. The job waits in the queue and goes on from its checkpoint once there is"
        ),
        None => {
            "There was no space or no database for a moment; the job goes on from its checkpoint"
                .to_owned()
        }
    };
    Transition {
        job: job.id.clone(),
        from: &[JobState::Running],
        attempt: Some(job.attempt),
        to: JobState::Queued,
        level: Level::Warn,
        message,
        change: Change::default(),
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
        let control = Control::new();
        let mut watch = Watch::new(PATIENCE, &control);
        // A stop of an hour counts as one look.
        advance(Duration::from_secs(3600)).await;
        assert_eq!(watch.look(&control), Sight::Alive);
        for _ in 0..8 {
            advance(TICK).await;
            assert_eq!(watch.look(&control), Sight::Alive);
        }
        control.beat();
        advance(TICK).await;
        assert_eq!(watch.look(&control), Sight::Alive);
        for _ in 0..10 {
            advance(TICK).await;
            assert_eq!(watch.look(&control), Sight::Alive);
        }
        advance(TICK).await;
        assert_eq!(watch.look(&control), Sight::Stuck);
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_moves_is_overdue_in_time() {
        let control = Control::new();
        let mut watch = Watch::new(PATIENCE, &control);
        for _ in 0..60 {
            control.beat();
            advance(TICK).await;
            watch.look(&control);
        }
        assert!(!watch.overdue);
        advance(TICK).await;
        watch.look(&control);
        assert!(watch.overdue);
        let stopped = watch.judge(Err(Stop::Paused.into()));
        assert!(
            matches!(&stopped, Err(TrainError::Failed { code, .. }) if code == "run_timeout"),
            "{stopped:?}"
        );
        let cancelled = watch.judge(Err(Stop::Cancelled.into()));
        assert_eq!(cancelled, Err(Stop::Cancelled.into()));
    }
}
