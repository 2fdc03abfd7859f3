//! GPT-2: learned positions, one projection to query, key and value, and weights that lie the other way round.

use serde::Deserialize;
use serde_json::Value;
use taper_kernels::Layout;

use super::{
    Arch, AttentionModules, DecoderConfig, DecoderModules, DecoderNorm, Description, Family,
    MlpModules, Positions, check_activation,
    decoder::DecoderOptions,
    defaults::{initializer_range, tenth},
    read_fields,
};
use crate::{Error, Result};

pub(super) const DESCRIPTION: Description = Description {
    model_type: "gpt2",
    class_prefix: "GPT2",
    causal_lm_class: Some("GPT2LMHeadModel"),
    target_modules: &["c_attn"],
    read,
    #[cfg(test)]
    golden: &["gpt2"],
};

const MODULES: DecoderModules = DecoderModules {
    embeddings: "transformer.wte",
    layers: "transformer.h",
    attention_norm: "ln_1",
    attention: AttentionModules::Fused {
        query_key_value: "attn.c_attn",
        output: "attn.c_proj",
    },
    mlp_norm: "ln_2",
    mlp: MlpModules::GeluTanh {
        widen: "mlp.c_fc",
        down: "mlp.c_proj",
    },
    norm: "transformer.ln_f",
    layout: Layout::InOut,
};

#[derive(Deserialize)]
struct Gpt2Fields {
    vocab_size: usize,
    n_positions: usize,
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    n_inner: Option<usize>,
    #[serde(default = "gelu_new")]
    activation_function: String,
    #[serde(default = "layer_norm_epsilon")]
    layer_norm_epsilon: f32,
    #[serde(default = "tenth")]
    embd_pdrop: f32,
    #[serde(default = "tenth")]
    attn_pdrop: f32,
    #[serde(default = "tenth")]
    resid_pdrop: f32,
    #[serde(default = "initializer_range")]
    initializer_range: f64,
    #[serde(default)]
    scale_attn_by_inverse_layer_idx: bool,
    scale_attn_weights: Option<bool>,
    tie_word_embeddings: Option<bool>,
}

fn layer_norm_epsilon() -> f32 {
    1e-5
}

fn gelu_new() -> String {
    "gelu_new".to_owned()
}

fn read(config: &Value) -> Result<Arch> {
    let fields: Gpt2Fields = read_fields(config)?;
    check_activation(
        "activation_function",
        &fields.activation_function,
        "gelu_new",
    )?;
    if fields.scale_attn_by_inverse_layer_idx || fields.scale_attn_weights == Some(false) {
        return Err(Error::model(
            "config.json: GPT-2 with another scale of attention is not supported",
        ));
    }
    if fields.n_head == 0 || !fields.n_embd.is_multiple_of(fields.n_head) {
        return Err(Error::model(
            "config.json: n_embd is not a multiple of n_head",
        ));
    }
    let decoder = DecoderConfig {
        family: Family::Gpt2,
        modules: &MODULES,
        vocab_size: fields.vocab_size,
        hidden_size: fields.n_embd,
        num_hidden_layers: fields.n_layer,
        num_attention_heads: fields.n_head,
        num_key_value_heads: fields.n_head,
        head_dim: fields.n_embd / fields.n_head,
        intermediate_size: fields.n_inner.unwrap_or(4 * fields.n_embd),
        max_position_embeddings: fields.n_positions,
        norm: DecoderNorm::Layer,
        norm_eps: fields.layer_norm_epsilon,
        positions: Positions::Learned("transformer.wpe"),
        initializer_range: fields.initializer_range,
        options: DecoderOptions {
            qkv_bias: true,
            output_bias: true,
            mlp_bias: true,
            window: None,
            tied: fields.tie_word_embeddings.unwrap_or(true),
            embedding_dropout: fields.embd_pdrop,
            attention_dropout: fields.attn_pdrop,
            residual_dropout: fields.resid_pdrop,
        },
    };
    Ok(Arch::Decoder(decoder.checked()?))
}
