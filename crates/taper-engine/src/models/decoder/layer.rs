//! One layer of a decoder.

use super::{Decoder, load_norm};
use crate::{
    Result,
    data::Batch,
    families::{AttentionModules, DecoderConfig, LinearRole, MlpModules},
    models::{LinearLayer, LinearShape, Loader, Part, Pass, Place},
    ops::{self, Activation, Heads, Norm},
    tape::Value,
};

pub(super) struct Layer {
    attention_norm: Norm,
    attention: Attention,
    output: LinearLayer,
    mlp_norm: Norm,
    mlp: Mlp,
    window: Option<usize>,
    part: Part,
}

enum Attention {
    Separate(Box<Projections>),
    /// One projection to all three.
    Fused(Box<LinearLayer>),
}

struct Projections {
    query: LinearLayer,
    key: LinearLayer,
    value: LinearLayer,
    /// Of queries and of keys.
    head_norms: Option<[Norm; 2]>,
}

enum Mlp {
    SwiGlu {
        gate: LinearLayer,
        up: LinearLayer,
        down: LinearLayer,
    },
    GeluTanh {
        widen: LinearLayer,
        down: LinearLayer,
    },
}

/// Loads the parts of one layer by their names in it.
struct Parts<'a, 'b> {
    config: &'a DecoderConfig,
    loader: &'a mut Loader<'b>,
    index: usize,
}

impl Parts<'_, '_> {
    fn path(&self, name: &str) -> String {
        self.config.modules.in_layer(self.index, name)
    }

    fn norm(&mut self, name: &str) -> Result<Norm> {
        let path = self.path(name);
        load_norm(self.config, self.loader, &path)
    }

    fn linear(
        &mut self,
        name: &str,
        role: LinearRole,
        (inputs, outputs): (usize, usize),
        bias: bool,
    ) -> Result<LinearLayer> {
        let path = self.path(name);
        let shape = LinearShape {
            inputs,
            outputs,
            bias,
            layout: self.config.modules.layout,
        };
        self.loader.linear(&path, role, shape)
    }

    fn head_norm(&mut self, name: &str) -> Result<Norm> {
        let path = self.path(name);
        let config = self.config;
        self.loader
            .rms_norm(&path, config.head_dim, config.norm_eps)
    }

    /// The projections in front of attention, and the one behind it.
    fn attention(&mut self) -> Result<(Attention, LinearLayer)> {
        let config = self.config;
        let (hidden, bias) = (config.hidden_size, config.options.qkv_bias);
        let queries = config.num_attention_heads * config.head_dim;
        let keys = config.num_key_value_heads * config.head_dim;
        let (attention, output) = match config.modules.attention {
            AttentionModules::Fused {
                query_key_value,
                output,
            } => {
                let shape = (hidden, 3 * hidden);
                let fused = self.linear(query_key_value, LinearRole::QueryKeyValue, shape, bias)?;
                (Attention::Fused(Box::new(fused)), output)
            }
            AttentionModules::Separate {
                query,
                key,
                value,
                output,
                head_norms,
            } => {
                let projections = Projections {
                    query: self.linear(query, LinearRole::Query, (hidden, queries), bias)?,
                    key: self.linear(key, LinearRole::Key, (hidden, keys), bias)?,
                    value: self.linear(value, LinearRole::Value, (hidden, keys), bias)?,
                    head_norms: match head_norms {
                        Some([query, key]) => Some([self.head_norm(query)?, self.head_norm(key)?]),
                        None => None,
                    },
                };
                (Attention::Separate(Box::new(projections)), output)
            }
        };
        let (role, bias) = (LinearRole::AttentionOutput, config.options.output_bias);
        Ok((
            attention,
            self.linear(output, role, (queries, hidden), bias)?,
        ))
    }

    fn mlp(&mut self) -> Result<Mlp> {
        let config = self.config;
        let bias = config.options.mlp_bias;
        let widening = (config.hidden_size, config.intermediate_size);
        let narrowing = (config.intermediate_size, config.hidden_size);
        Ok(match config.modules.mlp {
            MlpModules::SwiGlu { gate, up, down } => Mlp::SwiGlu {
                gate: self.linear(gate, LinearRole::Gate, widening, bias)?,
                up: self.linear(up, LinearRole::Up, widening, bias)?,
                down: self.linear(down, LinearRole::Down, narrowing, bias)?,
            },
            MlpModules::GeluTanh { widen, down } => Mlp::GeluTanh {
                widen: self.linear(widen, LinearRole::Widen, widening, bias)?,
                down: self.linear(down, LinearRole::Down, narrowing, bias)?,
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
        let part = loader.part();
        let mut parts = Parts {
            config,
            loader,
            index,
        };
        let attention_norm = parts.norm(config.modules.attention_norm)?;
        let (attention, output) = parts.attention()?;
        let mlp_norm = parts.norm(config.modules.mlp_norm)?;
        let mlp = parts.mlp()?;
        Ok(Self {
            attention_norm,
            attention,
            output,
            mlp_norm,
            mlp,
            window: config.window_of(index),
            part,
        })
    }

    pub(super) fn forward(
        &self,
        pass: &Pass<'_>,
        model: &Decoder,
        x: Value,
        batch: &Batch,
    ) -> Result<Value> {
        let (tape, config) = (pass.tape, &model.config);
        let dropout = |p, place| pass.dropout(p, self.part, place);
        let normed = ops::norm(tape, &x, &self.attention_norm)?;
        let qkv = self.project(pass, model, &normed, batch)?;
        let heads = Heads {
            count: config.num_attention_heads,
            key_values: config.num_key_value_heads,
            dim: config.head_dim,
            causal: true,
            window: self.window,
            dropout: dropout(config.options.attention_dropout, Place::Probabilities),
        };
        let mixed = ops::attention(tape, qkv, &batch.offsets, heads)?;
        let mixed = pass.linear(&mixed, &self.output)?;
        let behind = dropout(config.options.residual_dropout, Place::AttentionOutput);
        let x = ops::add(tape, x, mixed, behind)?;
        let normed = ops::norm(tape, &x, &self.mlp_norm)?;
        let narrow = match &self.mlp {
            Mlp::SwiGlu { gate, up, down } => {
                let (gate, up) = (pass.linear(&normed, gate)?, pass.linear(&normed, up)?);
                pass.linear(&ops::silu_mul(tape, gate, up)?, down)?
            }
            Mlp::GeluTanh { widen, down } => {
                let wide = pass.linear(&normed, widen)?;
                let wide = ops::activation(tape, wide, Activation::GeluTanh)?;
                pass.linear(&wide, down)?
            }
        };
        let behind = dropout(config.options.residual_dropout, Place::Output);
        Ok(ops::add(tape, x, narrow, behind)?)
    }

    /// Queries, keys and values, normalised and turned as the model has it.
    fn project(
        &self,
        pass: &Pass<'_>,
        model: &Decoder,
        x: &Value,
        batch: &Batch,
    ) -> Result<[Value; 3]> {
        let tape = pass.tape;
        let projections = match &self.attention {
            Attention::Fused(all) => return Ok(ops::split_columns(tape, &pass.linear(x, all)?)?),
            Attention::Separate(projections) => projections.as_ref(),
        };
        let [query_norm, key_norm] = match &projections.head_norms {
            Some([query, key]) => [Some(query), Some(key)],
            None => [None, None],
        };
        let turned = |x: Value, norm: Option<&Norm>| -> Result<Value> {
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
            turned(pass.linear(x, &projections.query)?, query_norm)?,
            turned(pass.linear(x, &projections.key)?, key_norm)?,
            pass.linear(x, &projections.value)?,
        ])
    }
}
