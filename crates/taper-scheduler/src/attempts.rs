//! What is asked of the attempts at work.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use taper_core::{Control, RequestedAction};
use taper_store::Job;
use tokio_util::sync::CancellationToken;

use crate::executors::{AttemptId, Executor};

/// The controls of the jobs that are being validated, prepared or run. One belongs to one attempt, so that a late request cannot reach
/// the next one. The work in this process looks at its control; a run is told through its executor.
pub(crate) struct Attempts {
    controls: Mutex<HashMap<AttemptId, Control>>,
    executor: Arc<dyn Executor>,
    /// One tells at a time, so that the last that an executor is told is what holds.
    turn: tokio::sync::Mutex<()>,
    stopping: CancellationToken,
}

impl Attempts {
    pub(crate) fn new(executor: Arc<dyn Executor>, stopping: CancellationToken) -> Self {
        Self {
            controls: Mutex::default(),
            executor,
            turn: tokio::sync::Mutex::default(),
            stopping,
        }
    }

    /// A job's control. Whoever asks first makes one; it is forgotten when the attempt is over.
    pub(crate) fn control_of(&self, job: &Job) -> Control {
        self.lock().entry(AttemptId::of(job)).or_default().clone()
    }

    pub(crate) fn forget(&self, job: &Job) {
        self.lock().remove(&AttemptId::of(job));
    }

    /// Asks for an action; a stronger one that was asked for before stands.
    pub(crate) async fn request(&self, job: &Job, action: RequestedAction) {
        let control = self.control_of(job);
        control.request(action);
        self.tell(&AttemptId::of(job), &control).await;
    }

    /// Asks an attempt to leave its place unless something is asked of it already.
    pub(crate) async fn request_pause(&self, job: &Job) {
        let control = self.control_of(job);
        if control.requested().is_none() {
            control.request(RequestedAction::Pause);
            self.tell(&AttemptId::of(job), &control).await;
        }
    }

    /// Tells the executor what is asked of an attempt, if anything was before the executor had it.
    pub(crate) async fn repeat(&self, job: &Job) {
        let control = self.control_of(job);
        if control.requested().is_some() {
            self.tell(&AttemptId::of(job), &control).await;
        }
    }

    /// Lets jobs stay that were to be paused, unless the server stops: then [`Attempts::pause_all`] has been here, or comes.
    pub(crate) async fn withdraw_pauses(&self, jobs: &[Job]) {
        let mut staying = Vec::new();
        {
            let controls = self.lock();
            for attempt in jobs.iter().map(AttemptId::of) {
                let known = controls.get(&attempt);
                if let Some(control) = known.filter(|_| !self.stopping.is_cancelled()) {
                    control.withdraw(RequestedAction::Pause);
                    staying.push((attempt, control.clone()));
                }
            }
        }
        for (attempt, control) in staying {
            self.tell(&attempt, &control).await;
        }
    }

    /// Asks all to leave their places; a request to cancel stands.
    pub(crate) async fn pause_all(&self) {
        let all: Vec<_> = {
            let controls = self.lock();
            let pairs = controls.iter();
            pairs
                .map(|(id, control)| (id.clone(), control.clone()))
                .collect()
        };
        for (attempt, control) in all {
            control.request(RequestedAction::Pause);
            self.tell(&attempt, &control).await;
        }
    }

    async fn tell(&self, attempt: &AttemptId, control: &Control) {
        let _turn = self.turn.lock().await;
        self.executor.request(attempt, control.requested()).await;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AttemptId, Control>> {
        // A map of flags cannot be left half changed.
        self.controls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
