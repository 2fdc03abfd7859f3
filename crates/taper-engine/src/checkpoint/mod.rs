//! A model folder in Hugging Face layout: `config.json`, safetensors weights, `tokenizer.json`.

mod base;
mod config;
mod digest;
mod folder;
mod weights;

pub(crate) use base::{Base, Frozen};
pub(crate) use config::{
    Arch, DecoderConfig, DecoderNorm, EncoderConfig, EncoderFamily, LONGEST, Mlp, Positions,
};
pub(crate) use folder::ModelFolder;
#[cfg(any(test, fuzzing))]
pub(crate) use weights::read_header;
pub(crate) use weights::{Weights, write_safetensors};
