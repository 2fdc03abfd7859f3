//! Reverse-mode differentiation: the tape, the operations that models are made of, and the backends that compute them.
//!
//! An operation of [`ops`] is written once. It calls a function of [`Backend`] for its result and leaves a backward on the [`Tape`],
//! which calls others for the gradients. What computes is the backend's business: [`Cpu`] has the kernels of `taper-kernels`,
//! [`Reference`] puts every function together from candle's operations, and [`Counting`] computes nothing and tells what a pass would
//! take. A backend that lacks a function has the reference's.
//!
//! The crate knows no models, no files and no data. Start with [`tape`], then `ops/linear.rs`, then [`backend`].

pub mod backend;
pub mod ops;
mod param;
pub mod tape;
#[cfg(test)]
mod tests;

pub use backend::{Backend, Counting, Cpu, Peak, Reference, Work, backend_of, outline};
pub use candle_core::{Error, Result};
pub use param::{Gradients, Param, ParamId, assign};
pub use tape::{GradientSink, Tape, Value};
