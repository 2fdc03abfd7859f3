//! One layer of a decoder.

use taper_kernels::Layout;

use super::{Decoder, Names, names};
use crate::{
    Result,
    data::Batch,
    families::{DecoderConfig, DecoderNorm, Mlp},
    models::{LinearShape, Loader, Pass, site},
    ops::{self, Activation, Heads, Linear, Norm},
    tape::Value,
};

pub(super) struct Layer {
    attention_norm: Norm,
    attention: Attention,
    output: Linear,
    mlp_norm: Norm,
    mlp: MlpLayers,
    window: Option<usize>,
}

enum Attention {
    Separate(Box<Projections>),
    /// GPT-2: one projection to all three.
    Fused(Box<Linear>),
}

struct Projections {
    query: Linear,
    key: Linear,
    value: Linear,
    query_norm: Option<Norm>,
    key_norm: Option<Norm>,
}

enum MlpLayers {
    Gated {
        gate: Linear,
        up: Linear,
        down: Linear,
    },
    Plain {
        up: Linear,
        down: Linear,
    },
}

/// A normalisation of the kind that the family has.
pub(super) fn load_norm(
    config: &DecoderConfig,
    loader: &mut Loader<'_>,
    path: &str,
) -> Result<Norm> {
    match config.norm {
        DecoderNorm::Rms => loader.rms_norm(path, config.hidden_size, config.norm_eps),
        DecoderNorm::Layer => loader.layer_norm(path, config.hidden_size, config.norm_eps),
    }
}

/// Loads the parts of one layer by their names in it.
struct Parts<'a, 'b> {
    config: &'a DecoderConfig,
    loader: &'a mut Loader<'b>,
    names: &'static Names,
    index: usize,
}

impl Parts<'_, '_> {
    fn path(&self, name: &str) -> String {
        format!("{}.{}.{name}", self.names.layers, self.index)
    }

    fn norm(&mut self, name: &str) -> Result<Norm> {
        let path = self.path(name);
        load_norm(self.config, self.loader, &path)
    }

    fn linear(&mut self, name: &str, inputs: usize, outputs: usize, bias: bool) -> Result<Linear> {
        let layout = if self.config.is_gpt2() {
            Layout::InOut
        } else {
            Layout::OutIn
        };
        let path = self.path(name);
        self.loader.linear(
            &path,
            LinearShape {
                inputs,
                outputs,
                bias,
                layout,
            },
        )
    }

    fn head_norm(&mut self, name: &str) -> Result<Option<Norm>> {
        if !self.config.qk_norm {
            return Ok(None);
        }
        let path = self.path(name);
        self.loader
            .rms_norm(&path, self.config.head_dim, self.config.norm_eps)
            .map(Some)
    }

    /// The projections in front of attention, and the one behind it.
    fn attention(&mut self) -> Result<(Attention, Linear)> {
        let config = self.config;
        let (hidden, bias) = (config.hidden_size, config.qkv_bias);
        let queries = config.num_attention_heads * config.head_dim;
        let keys = config.num_key_value_heads * config.head_dim;
        let (attention, output) = match self.names.attention {
            [fused, output] => (
                Attention::Fused(Box::new(self.linear(fused, hidden, 3 * hidden, true)?)),
                output,
            ),
            names => {
                let projections = Projections {
                    query: self.linear(names[0], hidden, queries, bias)?,
                    key: self.linear(names[1], hidden, keys, bias)?,
                    value: self.linear(names[2], hidden, keys, bias)?,
                    query_norm: self.head_norm("self_attn.q_norm")?,
                    key_norm: self.head_norm("self_attn.k_norm")?,
                };
                (Attention::Separate(Box::new(projections)), &names[3])
            }
        };
        Ok((
            attention,
            self.linear(output, queries, hidden, config.output_bias)?,
        ))
    }

    fn mlp(&mut self) -> Result<MlpLayers> {
        let config = self.config;
        let (hidden, wide, bias, names) = (
            config.hidden_size,
            config.intermediate_size,
            config.mlp_bias,
            self.names.mlp,
        );
        Ok(match config.mlp {
            Mlp::SwiGlu => MlpLayers::Gated {
                gate: self.linear(names[0], hidden, wide, bias)?,
                up: self.linear(names[1], hidden, wide, bias)?,
                down: self.linear(names[2], wide, hidden, bias)?,
            },
            Mlp::GeluTanh => MlpLayers::Plain {
                up: self.linear(names[0], hidden, wide, bias)?,
                down: self.linear(names[1], wide, hidden, bias)?,
            },
        })
    }
}

impl Layer {
    pub(super) fn load(
        config: &DecoderConfig,
        loader: &mut Loader<'_>,
        index: usize,
    ) -> Result<Self> {
        let mut parts = Parts {
            config,
            loader,
            names: names(config),
            index,
        };
        let attention_norm = parts.norm(parts.names.attention_norm)?;
        let (attention, output) = parts.attention()?;
        let mlp_norm = parts.norm(parts.names.mlp_norm)?;
        let mlp = parts.mlp()?;
        Ok(Self {
            attention_norm,
            attention,
            output,
            mlp_norm,
            mlp,
            window: config.window_of(index),
        })
    }

    pub(super) fn forward(
        &self,
        pass: &Pass<'_>,
        model: &Decoder,
        number: usize,
        x: Value,
        batch: &Batch,
    ) -> Result<Value> {
        let (tape, config) = (pass.tape, &model.config);
        let residual_dropout = |site| pass.dropout(config.residual_dropout, number, site);
        let normed = ops::norm(tape, &x, &self.attention_norm)?;
        let qkv = self.project(pass, model, number, &normed, batch)?;
        let heads = Heads {
            count: config.num_attention_heads,
            key_values: config.num_key_value_heads,
            dim: config.head_dim,
            causal: true,
            window: self.window,
            dropout: pass.dropout(config.attention_dropout, number, site::PROBABILITIES),
        };
        let mixed = ops::attention(tape, qkv, &batch.offsets, heads)?;
        let mixed = pass.linear(&mixed, &self.output, number, 3)?;
        let x = ops::add(tape, x, mixed, residual_dropout(site::ATTENTION_OUTPUT))?;
        let normed = ops::norm(tape, &x, &self.mlp_norm)?;
        let narrow = match &self.mlp {
            MlpLayers::Gated { gate, up, down } => {
                let (gate, up) = (
                    pass.linear(&normed, gate, number, 4)?,
                    pass.linear(&normed, up, number, 5)?,
                );
                pass.linear(&ops::silu_mul(tape, gate, up)?, down, number, 6)?
            }
            MlpLayers::Plain { up, down } => {
                let wide = ops::activation(
                    tape,
                    pass.linear(&normed, up, number, 4)?,
                    Activation::GeluTanh,
                )?;
                pass.linear(&wide, down, number, 6)?
            }
        };
        Ok(ops::add(tape, x, narrow, residual_dropout(site::OUTPUT))?)
    }

    /// Queries, keys and values, normalised and turned as the model has it.
    fn project(
        &self,
        pass: &Pass<'_>,
        model: &Decoder,
        number: usize,
        x: &Value,
        batch: &Batch,
    ) -> Result<[Value; 3]> {
        let tape = pass.tape;
        let Projections {
            query,
            key,
            value,
            query_norm,
            key_norm,
        } = match &self.attention {
            Attention::Fused(all) => {
                return Ok(ops::split_columns(tape, &pass.linear(x, all, number, 0)?)?);
            }
            Attention::Separate(projections) => projections.as_ref(),
        };
        let turned = |x: Value, norm: &Option<Norm>| -> Result<Value> {
            let x = match norm {
                Some(norm) => ops::norm(tape, &x, norm)?,
                None => x,
            };
            match &model.angles {
                Some(angles) => Ok(ops::rope(tape, x, angles, &batch.positions)?),
                None => Ok(x),
            }
        };
        Ok([
            turned(pass.linear(x, query, number, 0)?, query_norm)?,
            turned(pass.linear(x, key, number, 1)?, key_norm)?,
            pass.linear(x, value, number, 2)?,
        ])
    }
}
