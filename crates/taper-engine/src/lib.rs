//! Fine-tunes a model: reads a model folder and a data file, trains, evaluates, writes an adapter or a model.
//!
//! The crate owns everything between a [`taper_core::RunSpec`] and a folder of artifacts. It is plain blocking code and knows no
//! HTTP, no database and no async runtime. Start with `train`, then `methods`, then `models`, then `ops` and `tape`.

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
mod methods;
mod model_folder;
mod models;
mod ops;
mod optim;
mod param;
mod prepare;
mod random;
mod tape;
#[cfg(test)]
mod tests;
mod train;

pub use engine::Engine;
pub use error::{Error, Result};
