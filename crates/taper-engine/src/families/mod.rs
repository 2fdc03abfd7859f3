//! `config.json` of a model folder, brought to the terms that the models are built from.

mod decoder;
mod encoder;

use serde_json::Value;
use taper_core::TaskType;

use crate::{Error, Result};

pub(crate) use decoder::{DecoderConfig, DecoderNorm, Mlp, Positions};
pub(crate) use encoder::{EncoderConfig, EncoderFamily};

/// The shape of a model, by kind.
#[derive(Debug, Clone)]
pub(crate) enum Arch {
    Encoder(EncoderConfig),
    Decoder(DecoderConfig),
}

/// The `model_type`s that can be tuned.
const SUPPORTED: [&str; 9] = [
    "bert",
    "roberta",
    "xlm-roberta",
    "distilbert",
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gpt2",
];
/// Texts longer than this are not trained on, whatever the model says.
pub(crate) const LONGEST: usize = 1 << 16;
/// No model is larger than this in any direction.
const LARGEST: usize = 1 << 24;

impl Arch {
    /// Reads a parsed `config.json`; only the fields known here are looked at, code it may name is never followed.
    pub(crate) fn parse(config: &Value) -> Result<Self> {
        let model_type = config.get("model_type").and_then(Value::as_str);
        match model_type {
            Some("bert" | "roberta" | "xlm-roberta" | "distilbert") => {
                Ok(Self::Encoder(EncoderConfig::parse(config)?))
            }
            Some("llama" | "mistral" | "qwen2" | "qwen3" | "gpt2") => {
                Ok(Self::Decoder(DecoderConfig::parse(config)?))
            }
            Some(other) => Err(Error::model(format!(
                "config.json: the model_type '{other}' is not supported; supported: {}",
                SUPPORTED.join(", ")
            ))),
            None => Err(Error::model(format!(
                "config.json has no model_type; supported: {}",
                SUPPORTED.join(", ")
            ))),
        }
    }

    /// The usual LoRA targets, as PEFT has them.
    pub(crate) fn default_target_modules(&self) -> Vec<String> {
        let names: &[&str] = match self {
            Self::Encoder(config) if config.family == EncoderFamily::DistilBert => {
                &["q_lin", "v_lin"]
            }
            Self::Encoder(_) => &["query", "value"],
            Self::Decoder(config) if config.is_gpt2() => &["c_attn"],
            Self::Decoder(_) => &["q_proj", "v_proj"],
        };
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// The longest row in tokens.
    pub(crate) fn max_length(&self) -> usize {
        match self {
            Self::Encoder(config) => {
                config.max_position_embeddings - config.family.first_position()
            }
            Self::Decoder(config) => config.max_position_embeddings.min(LONGEST),
        }
    }

    pub(crate) fn hidden_size(&self) -> usize {
        match self {
            Self::Encoder(config) => config.hidden_size,
            Self::Decoder(config) => config.hidden_size,
        }
    }

    pub(crate) fn vocab_size(&self) -> usize {
        match self {
            Self::Encoder(config) => config.vocab_size,
            Self::Decoder(config) => config.vocab_size,
        }
    }

    pub(crate) fn heads(&self) -> usize {
        match self {
            Self::Encoder(config) => config.num_attention_heads,
            Self::Decoder(config) => config.num_attention_heads,
        }
    }

    /// Whether its linear layers are GPT-2's, which PEFT calls `fan_in_fan_out`.
    pub(crate) fn is_conv1d(&self) -> bool {
        matches!(self, Self::Decoder(config) if config.is_gpt2())
    }

    pub(crate) fn layers(&self) -> usize {
        match self {
            Self::Encoder(config) => config.num_hidden_layers,
            Self::Decoder(config) => config.num_hidden_layers,
        }
    }

    /// Tells whether the model can be tuned for a task.
    pub(crate) fn can(&self, task: TaskType) -> bool {
        matches!(self, Self::Decoder(_)) || task == TaskType::SeqCls
    }

    /// The class of transformers that loads the tuned model.
    pub(crate) fn architecture(&self, task: TaskType) -> String {
        let name = match self {
            Self::Encoder(config) => config.family.class_prefix(),
            Self::Decoder(config) => config.class_prefix(),
        };
        match task {
            TaskType::SeqCls => format!("{name}ForSequenceClassification"),
            TaskType::CausalLm if name == "GPT2" => "GPT2LMHeadModel".to_owned(),
            TaskType::CausalLm => format!("{name}ForCausalLM"),
        }
    }
}

/// Checks that sizes are those of a model.
fn check_sizes(sizes: &[(&str, usize)]) -> Result<()> {
    match sizes.iter().find(|(_, size)| !(1..=LARGEST).contains(size)) {
        Some((name, size)) => Err(Error::model(format!(
            "config.json: {name} is {size}, which no model has"
        ))),
        None => Ok(()),
    }
}

fn check_dropouts(dropouts: &[f32]) -> Result<()> {
    if dropouts.iter().all(|p| (0.0..1.0).contains(p)) {
        return Ok(());
    }
    Err(Error::model(
        "config.json: a dropout probability must be from 0 to below 1",
    ))
}

/// Reads the fields of a config into `T`.
fn read<T: serde::de::DeserializeOwned>(config: &Value) -> Result<T> {
    T::deserialize(config).map_err(|e| Error::model(format!("config.json: {e}")))
}
