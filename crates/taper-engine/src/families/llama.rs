//! Llama, and what its descendants share with it.

use serde::Deserialize;
use serde_json::Value;
use taper_kernels::Layout;

use super::{
    Arch, AttentionModules, DecoderConfig, DecoderModules, DecoderNorm, Description, Family,
    MlpModules, Positions, check_activation,
    decoder::{DecoderOptions, Window},
    defaults::initializer_range,
    read_fields,
    rope::Rope,
};
use crate::Result;

pub(super) const DESCRIPTION: Description = Description {
    model_type: "llama",
    class_prefix: "Llama",
    causal_lm_class: Some("LlamaForCausalLM"),
    target_modules: TARGET_MODULES,
    read,
    #[cfg(test)]
    golden: &["llama", "llama-rope3", "llama-linear"],
};

pub(super) const TARGET_MODULES: &[&str] = &["q_proj", "v_proj"];

pub(super) const MODULES: DecoderModules = DecoderModules {
    embeddings: "model.embed_tokens",
    layers: "model.layers",
    attention_norm: "input_layernorm",
    attention: AttentionModules::Separate {
        query: "self_attn.q_proj",
        key: "self_attn.k_proj",
        value: "self_attn.v_proj",
        output: "self_attn.o_proj",
        head_norms: None,
    },
    mlp_norm: "post_attention_layernorm",
    mlp: MlpModules::SwiGlu {
        gate: "mlp.gate_proj",
        up: "mlp.up_proj",
        down: "mlp.down_proj",
    },
    norm: "model.norm",
    layout: Layout::OutIn,
};

/// The fields of `config.json` that are looked at.
#[derive(Deserialize)]
pub(super) struct LlamaFields {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: usize,
    max_position_embeddings: usize,
    hidden_act: String,
    #[serde(default = "rms_norm_eps")]
    rms_norm_eps: f32,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    attention_dropout: f32,
    #[serde(default = "initializer_range")]
    initializer_range: f64,
    tie_word_embeddings: Option<bool>,
    pub(super) sliding_window: Option<usize>,
    #[serde(default)]
    use_sliding_window: bool,
    max_window_layers: Option<usize>,
}

fn rms_norm_eps() -> f32 {
    1e-6
}

fn read(config: &Value) -> Result<Arch> {
    let decoder = read_fields::<LlamaFields>(config)?.decoder(Family::Llama, &MODULES, config)?;
    Ok(Arch::Decoder(decoder.checked()?))
}

impl LlamaFields {
    /// A decoder as Llama has it, under a family's names.
    pub(super) fn decoder(
        self,
        family: Family,
        modules: &'static DecoderModules,
        config: &Value,
    ) -> Result<DecoderConfig> {
        check_activation("hidden_act", &self.hidden_act, "silu")?;
        let head_dim = match self.head_dim {
            Some(dim) => dim,
            None if self.num_attention_heads > 0 => self.hidden_size / self.num_attention_heads,
            None => 0,
        };
        let from_layer = self.max_window_layers.unwrap_or(0);
        Ok(DecoderConfig {
            family,
            modules,
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            num_key_value_heads: self.num_key_value_heads.unwrap_or(self.num_attention_heads),
            head_dim,
            intermediate_size: self.intermediate_size,
            max_position_embeddings: self.max_position_embeddings,
            norm: DecoderNorm::Rms,
            norm_eps: self.rms_norm_eps,
            positions: Positions::Rotary(Rope::parse(config)?),
            initializer_range: self.initializer_range,
            options: DecoderOptions {
                qkv_bias: self.attention_bias,
                output_bias: self.attention_bias,
                mlp_bias: self.mlp_bias,
                window: self
                    .sliding_window
                    .filter(|_| self.use_sliding_window)
                    .map(|tokens| Window { tokens, from_layer }),
                // transformers' own default for these families.
                tied: self.tie_word_embeddings.unwrap_or(false),
                attention_dropout: self.attention_dropout,
                ..DecoderOptions::default()
            },
        })
    }
}
