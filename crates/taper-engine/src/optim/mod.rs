//! From gradients to changed weights: clipping, AdamW.

mod adamw;
mod clip;

pub(crate) use adamw::{AdamW, Change};
pub(crate) use clip::clip_factor;
