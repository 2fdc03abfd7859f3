//! What a run will take, told before it starts: memory by part, disk, time.
//!
//! The model is built without its weights ([`Model::outline`]) and its own forward pass runs over the shape of a batch, on a tape
//! that counts instead of computing. So there is no second description of the models to keep in step: what an operation keeps and
//! works is said once, in `operations.rs`, and how a backward pass frees it in `ledger.rs`.

mod batches;
mod disk;
mod ledger;
mod memory;
mod operations;
mod time;

pub(crate) use batches::{heaviest, longest};
pub(crate) use disk::disk;
pub(crate) use ledger::{Counter, Work, outline};
pub(crate) use memory::{Surroundings, evaluation_batch, evaluation_pass, memory, train_pass};
pub(crate) use time::{Speed, seconds};
