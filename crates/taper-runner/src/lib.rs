//! Decides what runs next and runs it: validation, the queue's scheduler, the worker pool inside the process, recovery after a
//! restart. It knows training only as [`taper_core::Trainer`], and nothing of HTTP or tensors.
//!
//! A job's way through this crate: `submit.rs` accepts it, `validation.rs` counts its data and queues it, `scheduler.rs` claims it
//! for a free slot, `worker.rs` trains it on a thread of its own, `report.rs` carries what it tells to the store, and
//! `scheduler.rs` ends it. `cancel.rs` may cut in anywhere.

mod base;
mod cancel;
mod controls;
mod error;
mod models;
mod report;
mod runner;
mod scheduler;
mod settle;
mod submit;
mod validation;
mod worker;

pub use error::RunnerError;
pub use models::Model;
pub use runner::{Runner, RunnerConfig};
