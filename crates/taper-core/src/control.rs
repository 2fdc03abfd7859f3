use std::sync::{
    Arc,
    atomic::{AtomicU8, AtomicU64, Ordering},
};

use serde::{Deserialize, Serialize};

use crate::RequestedAction;

/// What is asked of the work on a job in this process, and its heartbeat: whoever holds a clone may ask, the run looks before every
/// micro-step. That it looks is its heartbeat.
#[derive(Debug, Clone, Default)]
pub struct Control(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// As [`rank`] counts.
    requested: AtomicU8,
    heartbeats: AtomicU64,
}

const NOTHING: u8 = 0;
const PAUSE: u8 = 1;

/// The stronger an action, the higher.
fn rank(action: RequestedAction) -> u8 {
    match action {
        RequestedAction::Pause => PAUSE,
        RequestedAction::Cancel => 2,
    }
}

impl Control {
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for an action; a stronger one that was asked for before stands.
    pub fn request(&self, action: RequestedAction) {
        self.0.requested.fetch_max(rank(action), Ordering::Release);
    }

    /// Takes a request back; another that has been made since stands.
    pub fn withdraw(&self, action: RequestedAction) {
        let (requested, from) = (&self.0.requested, rank(action));
        // Where it fails, there is nothing to take back.
        let _ = requested.compare_exchange(from, NOTHING, Ordering::AcqRel, Ordering::Acquire);
    }

    /// The strongest action that is asked for.
    pub fn requested(&self) -> Option<RequestedAction> {
        match self.0.requested.load(Ordering::Acquire) {
            NOTHING => None,
            PAUSE => Some(RequestedAction::Pause),
            _ => Some(RequestedAction::Cancel),
        }
    }

    /// Shows that the run is alive.
    pub fn heartbeat(&self) {
        self.0.heartbeats.fetch_add(1, Ordering::Relaxed);
    }

    /// How often the run has shown that it is alive.
    pub fn heartbeats(&self) -> u64 {
        self.0.heartbeats.load(Ordering::Relaxed)
    }

    /// Lets the run go on unless it is cancelled: for short work that a pause waits for.
    ///
    /// # Errors
    /// [`Stop::Cancelled`]
    pub fn check_cancelled(&self) -> Result<(), Stop> {
        self.heartbeat();
        match self.requested() {
            None | Some(RequestedAction::Pause) => Ok(()),
            Some(RequestedAction::Cancel) => Err(Stop::Cancelled),
        }
    }

    /// Lets the run go on, or tells it why not.
    ///
    /// # Errors
    /// What is asked for.
    pub fn check(&self) -> Result<(), Stop> {
        self.heartbeat();
        self.peek()
    }

    /// As [`Control::check`], but no sign of life: for a caller that waits for others.
    ///
    /// # Errors
    /// What is asked for.
    pub fn peek(&self) -> Result<(), Stop> {
        match self.requested() {
            None => Ok(()),
            Some(RequestedAction::Pause) => Err(Stop::Paused),
            Some(RequestedAction::Cancel) => Err(Stop::Cancelled),
        }
    }
}

/// A run that ended because somebody asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Stop {
    #[error("paused")]
    Paused,
    /// It is at [`crate::RunSpec::pause_at_step`], or past it.
    #[error("paused at its step")]
    Reached,
    #[error("cancelled")]
    Cancelled,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancel_stands() {
        let control = Control::new();
        control.request(RequestedAction::Pause);
        assert_eq!(control.check(), Err(Stop::Paused));
        control.request(RequestedAction::Cancel);
        control.request(RequestedAction::Pause);
        control.withdraw(RequestedAction::Pause);
        assert_eq!(control.check(), Err(Stop::Cancelled));
    }
}
