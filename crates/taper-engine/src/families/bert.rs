//! BERT, and what its descendants share with it.

use serde::Deserialize;
use serde_json::Value;

use super::{
    Arch, Description, EncoderConfig, EncoderModules, Family, check_activation,
    defaults::{initializer_range, tenth},
    encoder::HeadModules,
    read_fields,
};
use crate::{Error, Result, ops::Activation};

pub(super) const DESCRIPTION: Description = Description {
    model_type: "bert",
    class_prefix: "Bert",
    causal_lm_class: None,
    target_modules: TARGET_MODULES,
    read,
    #[cfg(test)]
    golden: &["bert", "bert-no-pooler"],
};

pub(super) const TARGET_MODULES: &[&str] = &["query", "value"];

pub(super) const MODULES: EncoderModules = EncoderModules {
    prefix: "bert",
    layers: "encoder.layer",
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    attention_output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    widen: "intermediate.dense",
    narrow: "output.dense",
    output_norm: "output.LayerNorm",
    head: HeadModules {
        hidden: "bert.pooler.dense",
        activation: Activation::Tanh,
        output: "classifier",
        pooler: Some("pooler"),
    },
};

/// The fields of `config.json` that are looked at.
#[derive(Deserialize)]
pub(super) struct BertFields {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    hidden_act: String,
    #[serde(default = "tenth")]
    hidden_dropout_prob: f32,
    #[serde(default = "tenth")]
    attention_probs_dropout_prob: f32,
    classifier_dropout: Option<f32>,
    #[serde(default = "layer_norm_eps")]
    layer_norm_eps: f32,
    #[serde(default = "initializer_range")]
    initializer_range: f64,
    position_embedding_type: Option<String>,
    #[serde(default)]
    is_decoder: bool,
    pub(super) pad_token_id: Option<usize>,
}

fn layer_norm_eps() -> f32 {
    1e-12
}

impl BertFields {
    /// An encoder as BERT has it, under a family's names.
    pub(super) fn encoder(
        self,
        family: Family,
        modules: &'static EncoderModules,
    ) -> Result<EncoderConfig> {
        check_activation("hidden_act", &self.hidden_act, "gelu")?;
        let positions = self
            .position_embedding_type
            .as_deref()
            .unwrap_or("absolute");
        if positions != "absolute" {
            return Err(Error::model(format!(
                "config.json: the position_embedding_type '{positions}' is not supported"
            )));
        }
        if self.is_decoder {
            return Err(Error::model(
                "config.json: an encoder used as a decoder (is_decoder) is not supported",
            ));
        }
        Ok(EncoderConfig {
            family,
            modules,
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            intermediate_size: self.intermediate_size,
            max_position_embeddings: self.max_position_embeddings,
            first_position: 0,
            type_vocab_size: Some(self.type_vocab_size),
            hidden_dropout: self.hidden_dropout_prob,
            attention_dropout: self.attention_probs_dropout_prob,
            attention_output_dropout: self.hidden_dropout_prob,
            head_input_dropout: 0.0,
            classifier_dropout: self.classifier_dropout.unwrap_or(self.hidden_dropout_prob),
            layer_norm_eps: self.layer_norm_eps,
            initializer_range: self.initializer_range,
        })
    }
}

fn read(config: &Value) -> Result<Arch> {
    let encoder = read_fields::<BertFields>(config)?.encoder(Family::Bert, &MODULES)?;
    Ok(Arch::Encoder(encoder.checked()?))
}
