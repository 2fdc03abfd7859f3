//! Decides which job runs next and where: admission, validation, the queue, recovery after a restart, and the executors that run what
//! was claimed. It knows training only as [`taper_core::Trainer`], and nothing of HTTP or tensors.
//!
//! A job's way: `submission.rs` accepts it if `admission.rs` says that it fits, `validation.rs` counts its data and queues it, `slot.rs`
//! takes it out of `queue.rs` when a place is free and `reservations.rs` has the memory, `preparation.rs` makes a ticket of it and finds
//! with `resume.rs` the checkpoint that it goes on from, a member of `executors/` runs it, `watchdog.rs` watches it, `recorder.rs` keeps
//! what it tells, and `conclusion.rs` says what its end means. `actions.rs`, what users do to jobs, may cut in anywhere: what is asked
//! of an attempt is in `attempts.rs`. `parts.rs` puts them together, and `scheduler.rs` is what other crates call.

mod actions;
mod admission;
mod attempt_error;
mod attempts;
mod base_model;
mod blocking;
mod commit_retry;
mod conclusion;
mod config;
mod error;
pub mod executors;
mod model_folders;
mod models;
mod parts;
mod preparation;
mod queue;
mod recorder;
mod recovery;
mod reservations;
mod resume;
mod retention;
mod scheduler;
mod shortage;
mod slot;
mod sources;
mod submission;
mod validation;
mod validation_queue;
mod watchdog;

pub use config::SchedulerConfig;
pub use error::{SchedulerError, states};
pub use model_folders::{Model, base_models};
pub use retention::Retention;
pub use scheduler::Scheduler;
pub use watchdog::Patience;
