//! Experiments: a row, and ordinary jobs that name it.

mod actions;
mod decisions;
mod experiment;
mod log;

pub use self::experiment::{ExperimentRecord, NewExperiment};
