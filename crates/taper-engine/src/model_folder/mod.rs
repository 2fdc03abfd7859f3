//! A model folder in Hugging Face layout: `config.json`, safetensors weights, `tokenizer.json`.

mod base;
mod digest;
mod folder;
mod weights;

pub(crate) use base::{Base, Frozen};
pub(crate) use folder::{ModelFolder, named_templates};
#[cfg(any(test, fuzzing))]
pub(crate) use weights::read_header;
pub(crate) use weights::{Weights, write_safetensors};
