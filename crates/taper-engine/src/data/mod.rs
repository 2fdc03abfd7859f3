//! From an uploaded file to batches: rows, classes, tokens, the order of an epoch.

mod batch;
mod classes;
mod formats;
mod sampler;
mod split;
mod tokenize;

pub(crate) use batch::Batch;
pub(crate) use classes::Classes;
pub(crate) use formats::{Row, read_rows};
pub(crate) use sampler::epoch_order;
pub(crate) use split::hold_out;
pub(crate) use tokenize::{Encoded, encode};
