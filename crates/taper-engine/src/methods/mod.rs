//! The tuning methods: which weights are trained and how the result is exported. What a method changes in the forward pass
//! stands with the operation it changes: adapters with [`crate::ops::linear`].

mod lora;

pub(crate) use lora::{matches_target, unmatched_targets};
