use serde::Deserialize;
use serde_json::Value;

use super::{check_dropouts, check_sizes, read};
use crate::{Error, Result};

/// Shape of a decoder.
#[derive(Debug, Clone)]
pub(crate) struct DecoderConfig {
    /// Its `model_type`.
    pub(crate) family: String,
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) num_key_value_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) max_position_embeddings: usize,
    pub(crate) norm: DecoderNorm,
    pub(crate) norm_eps: f32,
    pub(crate) positions: Positions,
    pub(crate) mlp: Mlp,
    /// Biases of query, key and value.
    pub(crate) qkv_bias: bool,
    /// Bias of the output of attention.
    pub(crate) output_bias: bool,
    pub(crate) mlp_bias: bool,
    /// Whether queries and keys are normalised head by head.
    pub(crate) qk_norm: bool,
    /// How many tokens back attention sees, by layer: from this layer on.
    pub(crate) window: Option<Window>,
    /// Whether the output layer is the embedding table.
    pub(crate) tied: bool,
    pub(crate) embedding_dropout: f32,
    pub(crate) attention_dropout: f32,
    pub(crate) residual_dropout: f32,
    pub(crate) initializer_range: f64,
}

/// A sliding window of attention.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) tokens: usize,
    /// The first layer that has it.
    pub(crate) from_layer: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecoderNorm {
    Rms,
    /// With mean and bias.
    Layer,
}

#[derive(Debug, Clone)]
pub(crate) enum Positions {
    /// A table that is added to the words.
    Learned,
    Rotary(Rope),
}

#[derive(Debug, Clone)]
pub(crate) struct Rope {
    pub(crate) theta: f64,
    pub(crate) scaling: RopeScaling,
}

/// How rotary frequencies are stretched for longer texts (`transformers/modeling_rope_utils.py`).
#[derive(Debug, Clone)]
pub(crate) enum RopeScaling {
    None,
    Linear {
        factor: f64,
    },
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_max_position_embeddings: f64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mlp {
    /// `down(silu(gate(x)) · up(x))`.
    SwiGlu,
    /// `proj(gelu(fc(x)))`, with the tanh form of GELU.
    GeluTanh,
}

#[derive(Deserialize)]
struct LlamaFields {
    model_type: String,
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
    sliding_window: Option<usize>,
    #[serde(default)]
    use_sliding_window: bool,
    max_window_layers: Option<usize>,
}

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

fn rms_norm_eps() -> f32 {
    1e-6
}

fn layer_norm_epsilon() -> f32 {
    1e-5
}

fn initializer_range() -> f64 {
    0.02
}

fn tenth() -> f32 {
    0.1
}

fn gelu_new() -> String {
    "gelu_new".to_owned()
}

impl DecoderConfig {
    pub(super) fn parse(config: &Value) -> Result<Self> {
        let parsed = if config["model_type"] == "gpt2" {
            Self::of_gpt2(read(config)?)?
        } else {
            Self::of_llama(read(config)?, config)?
        };
        check_sizes(&[
            ("vocab_size", parsed.vocab_size),
            ("hidden_size", parsed.hidden_size),
            ("num_hidden_layers", parsed.num_hidden_layers),
            ("num_attention_heads", parsed.num_attention_heads),
            ("num_key_value_heads", parsed.num_key_value_heads),
            ("head_dim", parsed.head_dim),
            ("intermediate_size", parsed.intermediate_size),
            ("max_position_embeddings", parsed.max_position_embeddings),
            (
                "sliding_window",
                parsed.window.map_or(1, |window| window.tokens),
            ),
        ])?;
        check_dropouts(&[
            parsed.embedding_dropout,
            parsed.attention_dropout,
            parsed.residual_dropout,
        ])?;
        if !parsed
            .num_attention_heads
            .is_multiple_of(parsed.num_key_value_heads)
        {
            return Err(Error::model(
                "config.json: num_attention_heads is not a multiple of num_key_value_heads",
            ));
        }
        if matches!(parsed.positions, Positions::Rotary(_)) && !parsed.head_dim.is_multiple_of(2) {
            return Err(Error::model(
                "config.json: rotary positions need an even head_dim",
            ));
        }
        Ok(parsed)
    }

    fn of_llama(fields: LlamaFields, config: &Value) -> Result<Self> {
        if fields.hidden_act != "silu" {
            return Err(Error::model(format!(
                "config.json: the hidden_act '{}' is not supported; supported: silu",
                fields.hidden_act
            )));
        }
        let head_dim = match fields.head_dim {
            Some(dim) => dim,
            None if fields.num_attention_heads > 0 => {
                fields.hidden_size / fields.num_attention_heads
            }
            None => 0,
        };
        let qwen2 = fields.model_type == "qwen2";
        let windowed = fields.model_type == "mistral" || fields.use_sliding_window;
        let from_layer = if fields.model_type == "mistral" {
            0
        } else {
            fields.max_window_layers.unwrap_or(0)
        };
        Ok(Self {
            qkv_bias: qwen2 || fields.attention_bias,
            output_bias: !qwen2 && fields.attention_bias,
            qk_norm: fields.model_type == "qwen3",
            window: fields
                .sliding_window
                .filter(|_| windowed)
                .map(|tokens| Window { tokens, from_layer }),
            // transformers' own default for these families.
            tied: fields.tie_word_embeddings.unwrap_or(false),
            family: fields.model_type,
            vocab_size: fields.vocab_size,
            hidden_size: fields.hidden_size,
            num_hidden_layers: fields.num_hidden_layers,
            num_attention_heads: fields.num_attention_heads,
            num_key_value_heads: fields
                .num_key_value_heads
                .unwrap_or(fields.num_attention_heads),
            head_dim,
            intermediate_size: fields.intermediate_size,
            max_position_embeddings: fields.max_position_embeddings,
            norm: DecoderNorm::Rms,
            norm_eps: fields.rms_norm_eps,
            positions: Positions::Rotary(Rope::parse(config)?),
            mlp: Mlp::SwiGlu,
            mlp_bias: fields.mlp_bias,
            embedding_dropout: 0.0,
            attention_dropout: fields.attention_dropout,
            residual_dropout: 0.0,
            initializer_range: fields.initializer_range,
        })
    }

    fn of_gpt2(fields: Gpt2Fields) -> Result<Self> {
        if fields.activation_function != "gelu_new" {
            return Err(Error::model(format!(
                "config.json: the activation_function '{}' is not supported; supported: gelu_new",
                fields.activation_function
            )));
        }
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
        Ok(Self {
            family: "gpt2".to_owned(),
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
            positions: Positions::Learned,
            mlp: Mlp::GeluTanh,
            qkv_bias: true,
            output_bias: true,
            mlp_bias: true,
            qk_norm: false,
            window: None,
            tied: fields.tie_word_embeddings.unwrap_or(true),
            embedding_dropout: fields.embd_pdrop,
            attention_dropout: fields.attn_pdrop,
            residual_dropout: fields.resid_pdrop,
            initializer_range: fields.initializer_range,
        })
    }

    pub(crate) fn is_gpt2(&self) -> bool {
        self.family == "gpt2"
    }

    pub(super) fn class_prefix(&self) -> &'static str {
        match self.family.as_str() {
            "llama" => "Llama",
            "mistral" => "Mistral",
            "qwen2" => "Qwen2",
            "qwen3" => "Qwen3",
            _ => "GPT2",
        }
    }

    /// The sliding window of a layer.
    pub(crate) fn window_of(&self, layer: usize) -> Option<usize> {
        self.window
            .filter(|window| layer >= window.from_layer)
            .map(|window| window.tokens)
    }
}

impl Rope {
    /// Reads `rope_theta` and `rope_scaling`, or `rope_parameters`, which has both since transformers 5.
    fn parse(config: &Value) -> Result<Self> {
        let scaling = ["rope_parameters", "rope_scaling"]
            .iter()
            .find_map(|key| config.get(*key).filter(|v| v.is_object()));
        let number = |key: &str| scaling.and_then(|s| s.get(key)).and_then(Value::as_f64);
        let theta = number("rope_theta")
            .or_else(|| config.get("rope_theta").and_then(Value::as_f64))
            .unwrap_or(10_000.0);
        let kind = scaling
            .and_then(|s| s.get("rope_type").or_else(|| s.get("type")))
            .and_then(Value::as_str);
        let needed = |key: &str| {
            let missing = || {
                Error::model(format!(
                    "config.json: the rope scaling has no positive {key}"
                ))
            };
            number(key)
                .filter(|x| *x > 0.0 && x.is_finite())
                .ok_or_else(missing)
        };
        let scaling = match kind {
            None | Some("default") => RopeScaling::None,
            Some("linear") => RopeScaling::Linear {
                factor: needed("factor")?,
            },
            Some("llama3") => RopeScaling::Llama3 {
                factor: needed("factor")?,
                low_freq_factor: needed("low_freq_factor")?,
                high_freq_factor: needed("high_freq_factor")?,
                original_max_position_embeddings: needed("original_max_position_embeddings")?,
            },
            Some(other) => {
                return Err(Error::model(format!(
                    "config.json: the rope scaling '{other}' is not supported; supported: linear, llama3"
                )));
            }
        };
        if !(theta.is_finite() && theta > 1.0) {
            return Err(Error::model(
                "config.json: rope_theta must be greater than 1",
            ));
        }
        Ok(Self { theta, scaling })
    }

    /// The frequency of each pair of a head's elements.
    pub(crate) fn frequencies(&self, head_dim: usize) -> Vec<f64> {
        let plain = (0..head_dim / 2).map(|i| self.theta.powf(-2.0 * i as f64 / head_dim as f64));
        plain
            .map(|frequency| self.scaling.apply(frequency))
            .collect()
    }
}

impl RopeScaling {
    fn apply(&self, frequency: f64) -> f64 {
        match *self {
            Self::None => frequency,
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings: original,
            } => {
                let wavelength = std::f64::consts::TAU / frequency;
                if wavelength < original / high_freq_factor {
                    frequency
                } else if wavelength > original / low_freq_factor {
                    frequency / factor
                } else {
                    let smooth = (original / wavelength - low_freq_factor)
                        / (high_freq_factor - low_freq_factor);
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                }
            }
        }
    }
}
