//! Where claimed attempts run. An executor knows attempts and places, and of training no more than what passes through it: a
//! [`Ticket`] in, [`Report`]s out. The scheduler holds no thread and no process of a run; it asks and is told.

mod local;
pub mod process;
mod reports;

use std::fmt;

use futures_util::future::BoxFuture;
use taper_core::{Device, RequestedAction, RunSpec};
use taper_store::Job;

pub(crate) use self::local::panicked;
pub use self::{
    local::Local,
    process::Process,
    reports::{Report, ReportReceiver, Reports},
};

/// Deep graphs recurse when they are dropped and walked backwards. Only what is touched takes memory.
pub const STACK_BYTES: usize = 64 << 20;

/// What runs attempts. Every call may be repeated: what it asks for and what is so already is no error.
pub trait Executor: Send + Sync {
    /// What runs can have, beside each other.
    fn places(&self) -> &[Place];

    /// Begins to run an attempt, at most once per attempt ever, and tells of it until it is over: its end is the last report, and
    /// `reports` is dropped when nothing of it runs any more. For an attempt that it has already it goes on to tell there.
    ///
    /// # Errors
    /// The attempt was not begun and never will be.
    fn submit(&self, ticket: Ticket, reports: Reports) -> BoxFuture<'_, Result<(), Refused>>;

    /// All attempts of this server that have not ended.
    ///
    /// # Errors
    /// Nothing is known. That alone says nothing about any attempt.
    fn survey(&self) -> BoxFuture<'_, Result<Vec<AttemptId>, Away>>;

    /// Tells what is asked of an attempt now; `None` = that it goes on. One that is not there is left alone.
    fn request<'a>(
        &'a self,
        attempt: &'a AttemptId,
        action: Option<RequestedAction>,
    ) -> BoxFuture<'a, ()>;

    /// Waits no longer for an attempt that does not move: it is to end when it can, and its place is free for the next one.
    ///
    /// # Errors
    /// The place could not be made free.
    fn abandon<'a>(&'a self, attempt: &'a AttemptId) -> BoxFuture<'a, Result<(), Refused>>;

    /// Lets go of what the executor itself holds, once the scheduler waits for no attempt any more.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// A start of a job; the next one has another number, so that nothing late can be taken for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AttemptId {
    pub job: String,
    pub attempt: u32,
}

impl AttemptId {
    pub fn of(job: &Job) -> Self {
        Self {
            job: job.id.clone(),
            attempt: job.attempt,
        }
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (attempt {})", self.job, self.attempt)
    }
}

/// What one run has at a time.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub device: Device,
    /// Threads for the arithmetic.
    pub threads: usize,
}

/// An attempt as an executor gets it.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// Which of [`Executor::places`] it has.
    pub place: usize,
    pub run: RunSpec,
}

impl Ticket {
    pub fn attempt(&self) -> AttemptId {
        AttemptId {
            job: self.run.job_id.clone(),
            attempt: self.run.attempt,
        }
    }
}

/// Why an executor did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// An executor that does not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the executor does not answer: {0}")]
pub struct Away(pub String);
