//! Fine-tunes a model: reads a model folder and a data file, trains, evaluates, writes an adapter or a model.
//!
//! The crate owns everything between a [`taper_core::RunSpec`] and a folder of artifacts. It is plain blocking code and knows no
//! HTTP, no database and no async runtime. Start with `trainer`, then `methods`, then `models`, then `ops` and `tape`.

mod cache;
mod checkpoint;
mod checks;
mod data;
mod device;
mod engine;
mod error;
mod estimate;
mod evaluate;
mod export;
mod fingerprint;
mod folder;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod keeper;
mod memory;
mod methods;
mod models;
mod opened;
mod ops;
mod optim;
mod param;
mod planning;
mod prepare;
mod random;
mod samples;
mod state;
mod tape;
#[cfg(test)]
mod tests;
mod trainer;

pub use engine::Engine;
pub use error::{Error, Result};
