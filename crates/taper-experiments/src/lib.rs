//! Experiments: one request becomes ordinary jobs, which are compared and acted on as a whole. Of the scheduler they see what everybody
//! sees; what is decided and compared is in [`taper_core::experiment`], and here is when.
//!
//! `experiments.rs` is what users do; `rung_scheduler.rs` decides which runs of a successive halving go on; `intervals.rs` makes the
//! intervals of differences in the background.

mod error;
mod experiments;
mod intervals;
mod rung_scheduler;

pub use error::ExperimentError;
pub use experiments::{ExperimentView, Experiments};
