//! Decides what runs next and runs it: validation, the queue's scheduler, the worker pool inside the process, recovery after a
//! restart. It knows training only as [`taper_core::Trainer`], and nothing of HTTP.

mod error;
mod models;
mod runner;

pub use error::RunnerError;
pub use models::Model;
pub use runner::{Runner, RunnerConfig};
