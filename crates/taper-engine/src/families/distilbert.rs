//! DistilBERT: fewer layers than BERT, no token types, no dropout behind attention.

use serde::Deserialize;
use serde_json::Value;

use super::{
    Arch, Description, EncoderConfig, EncoderModules, Family, check_activation,
    defaults::{fifth, initializer_range, tenth},
    encoder::HeadModules,
    read_fields,
};
use crate::{Result, ops::Activation};

pub(super) const DESCRIPTION: Description = Description {
    model_type: "distilbert",
    class_prefix: "DistilBert",
    causal_lm_class: None,
    target_modules: &["q_lin", "v_lin"],
    read,
    #[cfg(test)]
    golden: &["distilbert"],
};

const MODULES: EncoderModules = EncoderModules {
    prefix: "distilbert",
    layers: "transformer.layer",
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    attention_output: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    widen: "ffn.lin1",
    narrow: "ffn.lin2",
    output_norm: "output_layer_norm",
    head: HeadModules {
        hidden: "pre_classifier",
        activation: Activation::Relu,
        output: "classifier",
        pooler: None,
    },
};

#[derive(Deserialize)]
struct DistilBertFields {
    vocab_size: usize,
    dim: usize,
    n_layers: usize,
    n_heads: usize,
    hidden_dim: usize,
    max_position_embeddings: usize,
    activation: String,
    #[serde(default = "tenth")]
    dropout: f32,
    #[serde(default = "tenth")]
    attention_dropout: f32,
    #[serde(default = "fifth")]
    seq_classif_dropout: f32,
    #[serde(default = "initializer_range")]
    initializer_range: f64,
}

fn read(config: &Value) -> Result<Arch> {
    let fields: DistilBertFields = read_fields(config)?;
    check_activation("hidden_act", &fields.activation, "gelu")?;
    let encoder = EncoderConfig {
        family: Family::DistilBert,
        modules: &MODULES,
        vocab_size: fields.vocab_size,
        hidden_size: fields.dim,
        num_hidden_layers: fields.n_layers,
        num_attention_heads: fields.n_heads,
        intermediate_size: fields.hidden_dim,
        max_position_embeddings: fields.max_position_embeddings,
        first_position: 0,
        type_vocab_size: None,
        hidden_dropout: fields.dropout,
        attention_dropout: fields.attention_dropout,
        attention_output_dropout: 0.0,
        head_input_dropout: 0.0,
        classifier_dropout: fields.seq_classif_dropout,
        layer_norm_eps: 1e-12,
        initializer_range: fields.initializer_range,
    };
    Ok(Arch::Encoder(encoder.checked()?))
}
