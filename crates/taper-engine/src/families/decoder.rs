//! The shape of a decoder: the same blocks under every family's names.

use taper_kernels::Layout;

use super::{Family, check_dropouts, check_sizes, rope::Rope};
use crate::{Error, Result};

/// Shape of a decoder.
#[derive(Debug, Clone)]
pub(crate) struct DecoderConfig {
    pub(crate) family: Family,
    pub(crate) modules: &'static DecoderModules,
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
    pub(crate) initializer_range: f64,
    pub(crate) options: DecoderOptions,
}

/// The name of the table that turns last hidden states into logits, where it is not the embedding table.
pub(crate) const OUTPUT_TABLE: &str = "lm_head.weight";

/// What a decoder may have beside the plain blocks; by default nothing of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct DecoderOptions {
    /// Biases of query, key and value.
    pub(crate) qkv_bias: bool,
    /// Bias of the output of attention.
    pub(crate) output_bias: bool,
    pub(crate) mlp_bias: bool,
    /// How many tokens back attention sees, by layer.
    pub(crate) window: Option<Window>,
    /// Whether the output layer is the embedding table. config.json tells, but weights that have both with other values do not.
    pub(crate) tied: bool,
    pub(crate) embedding_dropout: f32,
    pub(crate) attention_dropout: f32,
    pub(crate) residual_dropout: f32,
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
    /// A table that is added to the token embeddings, by its name.
    Learned(&'static str),
    Rotary(Rope),
}

/// Names of a decoder's modules, and with them which ones it has. Those of a layer are relative to it.
#[derive(Debug)]
pub(crate) struct DecoderModules {
    pub(crate) embeddings: &'static str,
    pub(crate) layers: &'static str,
    pub(crate) attention_norm: &'static str,
    pub(crate) attention: AttentionModules,
    pub(crate) mlp_norm: &'static str,
    pub(crate) mlp: MlpModules,
    pub(crate) norm: &'static str,
    /// How weights of the linear layers lie in the file.
    pub(crate) layout: Layout,
}

#[derive(Debug)]
pub(crate) enum AttentionModules {
    Separate {
        query: &'static str,
        key: &'static str,
        value: &'static str,
        output: &'static str,
        /// Norms of queries and keys, head by head.
        head_norms: Option<[&'static str; 2]>,
    },
    /// One projection to all three.
    Fused {
        query_key_value: &'static str,
        output: &'static str,
    },
}

#[derive(Debug)]
pub(crate) enum MlpModules {
    /// `down(silu(gate(x)) · up(x))`.
    SwiGlu {
        gate: &'static str,
        up: &'static str,
        down: &'static str,
    },
    /// `down(gelu(widen(x)))`, with the tanh form of GELU.
    GeluTanh {
        widen: &'static str,
        down: &'static str,
    },
}

impl DecoderModules {
    pub(crate) fn in_layer(&self, index: usize, name: &str) -> String {
        format!("{}.{index}.{name}", self.layers)
    }

    /// The linear layers of a layer, in their order.
    fn linears(&self) -> Vec<&'static str> {
        let mut linears = match self.attention {
            AttentionModules::Separate {
                query,
                key,
                value,
                output,
                head_norms: _,
            } => vec![query, key, value, output],
            AttentionModules::Fused {
                query_key_value,
                output,
            } => vec![query_key_value, output],
        };
        match self.mlp {
            MlpModules::SwiGlu { gate, up, down } => linears.extend([gate, up, down]),
            MlpModules::GeluTanh { widen, down } => linears.extend([widen, down]),
        }
        linears
    }
}

impl DecoderConfig {
    /// # Errors
    /// A size that no model has, sizes that do not go together.
    pub(super) fn checked(self) -> Result<Self> {
        let options = &self.options;
        check_sizes(&[
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            (
                "sliding_window",
                options.window.map_or(1, |window| window.tokens),
            ),
        ])?;
        check_dropouts(&[
            options.embedding_dropout,
            options.attention_dropout,
            options.residual_dropout,
        ])?;
        if !self
            .num_attention_heads
            .is_multiple_of(self.num_key_value_heads)
        {
            return Err(Error::model(
                "config.json: num_attention_heads is not a multiple of num_key_value_heads",
            ));
        }
        if matches!(self.positions, Positions::Rotary(_)) && !self.head_dim.is_multiple_of(2) {
            return Err(Error::model(
                "config.json: rotary positions need an even head_dim",
            ));
        }
        Ok(self)
    }

    /// The sliding window of a layer.
    pub(crate) fn window_of(&self, layer: usize) -> Option<usize> {
        self.options
            .window
            .filter(|window| layer >= window.from_layer)
            .map(|window| window.tokens)
    }

    /// Paths of the linear layers that may get an adapter, and of all modules that may be trained whole.
    pub(super) fn paths(&self) -> (Vec<String>, Vec<String>) {
        let modules = self.modules;
        let in_layers = |names: Vec<&'static str>| -> Vec<String> {
            (0..self.num_hidden_layers)
                .flat_map(|i| names.iter().map(move |name| modules.in_layer(i, name)))
                .collect()
        };
        let linears = in_layers(modules.linears());
        let mut all = linears.clone();
        all.extend(in_layers(vec![modules.attention_norm, modules.mlp_norm]));
        all.extend([modules.norm.to_owned(), "score".to_owned()]);
        if !self.options.tied {
            all.extend([modules.embeddings.to_owned(), "lm_head".to_owned()]);
        }
        (linears, all)
    }
}
