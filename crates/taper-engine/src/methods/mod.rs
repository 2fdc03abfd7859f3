//! The tuning methods: which weights are trained, and at which rate. What a method changes in the forward pass stands with the
//! operation it changes: adapters with [`crate::ops::linear`], virtual tokens with [`crate::ops::prepend`].

mod group;
mod lora;
mod prompt_tuning;
mod rates;

pub(crate) use group::{PROMPT, layer_of};
pub(crate) use lora::LoraPlan;
pub(crate) use prompt_tuning::initial_prompt;
pub(crate) use rates::{LayerRates, Rates};
