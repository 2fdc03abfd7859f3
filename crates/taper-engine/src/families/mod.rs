//! The model families, a file each: the `model_type` it reads, what it knows of `config.json`, the names of its modules, its usual LoRA
//! targets. What families share is the shape of an encoder and of a decoder. Nothing here computes and nothing opens files:
//! [`crate::models`] builds its blocks from these descriptions.

mod bert;
mod decoder;
mod distilbert;
mod encoder;
mod gpt2;
mod linear_role;
mod llama;
mod mistral;
mod qwen2;
mod qwen3;
mod roberta;
mod rope;
mod xlm_roberta;

use serde_json::Value;

use crate::{Error, Result};

pub(crate) use decoder::{
    AttentionModules, DecoderConfig, DecoderModules, DecoderNorm, MlpModules, OUTPUT_TABLE,
    Positions,
};
pub(crate) use encoder::{EncoderConfig, EncoderModules};
pub(crate) use linear_role::LinearRole;

/// Texts longer than this are not trained on, whatever the model says.
pub(crate) const LONGEST: usize = 1 << 16;
/// No model is larger than this in any direction.
const LARGEST: usize = 1 << 24;

/// Makes the enum of the families, the list of all of them, and the way from each to its file.
macro_rules! families {
    ($($family:ident => $file:ident,)+) => {
        /// A family of models: all of one `model_type`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Family {
            $($family),+
        }

        impl Family {
            pub(crate) const ALL: &[Self] = &[$(Self::$family),+];

            pub(crate) fn describe(self) -> &'static Description {
                match self {
                    $(Self::$family => &$file::DESCRIPTION),+
                }
            }
        }
    };
}

families! {
    Bert => bert,
    Roberta => roberta,
    XlmRoberta => xlm_roberta,
    DistilBert => distilbert,
    Llama => llama,
    Mistral => mistral,
    Qwen2 => qwen2,
    Qwen3 => qwen3,
    Gpt2 => gpt2,
}

/// What a family's file says of it.
pub(crate) struct Description {
    /// As `config.json` has it.
    pub(crate) model_type: &'static str,
    /// The beginning of the names of its classes in transformers.
    pub(crate) class_prefix: &'static str,
    /// The class that continues texts; `None` for an encoder, which cannot.
    pub(crate) causal_lm_class: Option<&'static str>,
    /// The modules that get LoRA adapters where a job names none, as PEFT has them.
    pub(crate) target_modules: &'static [&'static str],
    /// Reads `config.json`.
    read: fn(&Value) -> Result<Arch>,
    /// Folders of `tests/golden/families` with models of the family, made by transformers and PEFT.
    #[cfg(test)]
    pub(crate) golden: &'static [&'static str],
}

/// The shape of a model, by kind.
#[derive(Debug, Clone)]
pub(crate) enum Arch {
    Encoder(EncoderConfig),
    Decoder(DecoderConfig),
}

impl Arch {
    /// Reads a parsed `config.json`; only the fields known here are looked at, code it may name is never followed.
    ///
    /// # Errors
    /// A family, a switch or a size that is not supported, by its name.
    pub(crate) fn parse(config: &Value) -> Result<Self> {
        let families = || Family::ALL.iter().map(|family| family.describe());
        let refuse = |what: String| {
            let supported: Vec<&str> = families().map(|family| family.model_type).collect();
            let supported = supported.join(", ");
            Err(Error::model(format!(
                "config.json{what}; supported: {supported}"
            )))
        };
        let Some(model_type) = config.get("model_type").and_then(Value::as_str) else {
            return refuse(" has no model_type".to_owned());
        };
        match families().find(|family| family.model_type == model_type) {
            Some(family) => (family.read)(config),
            None => refuse(format!(": the model_type '{model_type}' is not supported")),
        }
    }

    /// Whether a module's name, or the end of it, means one of two tables that are one.
    pub(crate) fn is_tied(&self, name: &str) -> bool {
        let Self::Decoder(decoder) = self else {
            return false;
        };
        let tables = [decoder.modules.embeddings, "lm_head"];
        let means = |table: &str| table == name || table.ends_with(&format!(".{name}"));
        decoder.options.tied && tables.into_iter().any(means)
    }

    pub(crate) fn family(&self) -> &'static Description {
        match self {
            Self::Encoder(config) => config.family.describe(),
            Self::Decoder(config) => config.family.describe(),
        }
    }

    /// The usual LoRA targets, as PEFT has them.
    pub(crate) fn default_target_modules(&self) -> Vec<String> {
        let names = self.family().target_modules;
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// The longest row in tokens.
    pub(crate) fn max_length(&self) -> usize {
        match self {
            Self::Encoder(config) => config.max_position_embeddings - config.first_position,
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

    pub(crate) fn layers(&self) -> usize {
        match self {
            Self::Encoder(config) => config.num_hidden_layers,
            Self::Decoder(config) => config.num_hidden_layers,
        }
    }

    /// Whether its linear layers are GPT-2's, which PEFT calls `fan_in_fan_out`.
    pub(crate) fn is_conv1d(&self) -> bool {
        match self {
            Self::Encoder(_) => false,
            Self::Decoder(config) => config.modules.layout == taper_kernels::Layout::InOut,
        }
    }

    /// Paths of the linear layers that may get an adapter, and of all modules that may be trained whole.
    pub(crate) fn paths(&self) -> (Vec<String>, Vec<String>) {
        match self {
            Self::Encoder(config) => config.paths(),
            Self::Decoder(config) => config.paths(),
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

/// The activation of the layers must be the one that the family's blocks have.
fn check_activation(field: &str, found: &str, supported: &str) -> Result<()> {
    if found == supported {
        return Ok(());
    }
    Err(Error::model(format!(
        "config.json: the {field} '{found}' is not supported; supported: {supported}"
    )))
}

/// Reads the fields of a config into `T`.
fn read_fields<T: serde::de::DeserializeOwned>(config: &Value) -> Result<T> {
    T::deserialize(config).map_err(|e| Error::model(format!("config.json: {e}")))
}

/// What transformers takes where `config.json` says nothing.
mod defaults {
    pub(super) fn fifth() -> f32 {
        0.2
    }

    pub(super) fn tenth() -> f32 {
        0.1
    }

    pub(super) fn initializer_range() -> f64 {
        0.02
    }
}
