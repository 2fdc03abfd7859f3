//! Fine-tunes a model: reads a model folder and a data file, trains, evaluates, writes an adapter or a model.
//!
//! The crate owns everything between a [`taper_core::RunSpec`] and a folder of artifacts. It is plain blocking code and knows no
//! HTTP, no database and no async runtime. Start with `train`, then `methods`, then `models`.

mod atomic_folder;
mod cache;
mod checkpoint;
mod data;
mod device;
mod engine;
mod error;
mod estimate;
mod evaluation;
mod export;
mod families;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod history;
mod methods;
mod model_folder;
mod models;
mod optim;
mod parameters;
mod prepare;
mod random;
mod tasks;
#[cfg(test)]
mod tests;
mod train;

use taper_autodiff::{ops, tape};

pub use engine::Engine;
pub use error::{Error, Result};
