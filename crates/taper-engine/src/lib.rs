//! Fine-tunes a model: reads a model folder and a data file, trains, evaluates, writes an adapter or a model.
//!
//! The crate owns everything between a [`taper_core::RunSpec`] and a folder of artifacts. It is plain blocking code and knows no
//! HTTP, no database and no async runtime. Start with `trainer`, then `methods`, then `models`.

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
mod optim;
mod param;
mod planning;
mod prepare;
mod random;
mod samples;
mod state;
#[cfg(test)]
mod tests;
mod trainer;

use taper_autodiff::{ops, tape};

pub use engine::Engine;
pub use error::{Error, Result};
