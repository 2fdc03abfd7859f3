//! Decides what runs next and runs it: validation, the queue's scheduler, the worker pool inside the process, recovery after a
//! restart. It knows training only as [`taper_core::Trainer`], and nothing of HTTP or tensors.
//!
//! A job's way through this crate: `submit.rs` accepts it if `admission.rs` says that it fits, `validation.rs` counts its data and queues it, `slot.rs` claims it
//! for a free slot if `ledger.rs` has the memory, `resume.rs` finds the checkpoint it goes on from, `worker.rs` trains it on a thread of its own, `report.rs`
//! carries what it tells to the store, and `slot.rs` ends it. `actions.rs`, what users do to jobs, may cut in anywhere.
//! `experiments.rs` makes many jobs of one request, and `rung_scheduler.rs` decides which of them go on.

mod actions;
mod admission;
mod base;
mod commit_retry;
mod controls;
mod error;
mod experiments;
mod intervals;
mod ledger;
mod models;
mod report;
mod resume;
mod retention;
mod rung_scheduler;
mod scheduler;
mod slot;
mod submit;
mod validation;
mod watchdog;
mod worker;

pub use error::SchedulerError;
pub use experiments::ExperimentView;
pub use models::{Model, base_models};
pub use retention::Retention;
pub use scheduler::{Scheduler, SchedulerConfig};
pub use watchdog::Patience;
