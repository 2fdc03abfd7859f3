//! What a run will take, told before it starts: memory by part, disk, time.
//!
//! The model is built without its weights ([`Model::outline`]) and its own passes, forward and backward, run over the shape of a batch,
//! on a backend that counts instead of computing ([`taper_autodiff::Counting`]). So there is no second description of the models and
//! their operations to keep in step.

mod batches;
mod disk;
mod memory;
mod time;

/// Bytes of an f32.
const F32: u64 = 4;

pub(crate) use batches::{heaviest, longest, text_bytes};
pub(crate) use disk::disk;
pub(crate) use memory::{Surroundings, evaluation_batch, evaluation_pass, memory, train_pass};
pub(crate) use time::{Speed, seconds};
