use candle_core::{D, Device, Tensor};
use taper_kernels::{Attended, Attention, Qkv, QkvGradients};

use super::Dropout;
use crate::{
    Result,
    tape::{Path, Tape, Value, slice},
};

/// How attention works in one layer of one pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    pub(crate) count: usize,
    /// Heads of keys and values, a divisor of `count`: each serves a group of query heads.
    pub(crate) key_values: usize,
    pub(crate) dim: usize,
    /// Whether a token sees only itself and those before it.
    pub(crate) causal: bool,
    /// How many tokens a token sees at most, itself included.
    pub(crate) window: Option<usize>,
    /// On the probabilities.
    pub(crate) dropout: Dropout,
}

impl Heads {
    fn kernel(self, offsets: &[usize]) -> Attention<'_> {
        Attention {
            heads: self.count,
            kv_heads: self.key_values,
            head_dim: self.dim,
            scale: 1.0 / (self.dim as f32).sqrt(),
            causal: self.causal,
            window: self.window,
            dropout: self.dropout.kernel(),
            offsets,
        }
    }

    /// Tells whether the token at place `query` of a sequence sees the one at place `key`.
    fn sees(self, query: usize, key: usize) -> bool {
        (!self.causal || key <= query) && self.window.is_none_or(|window| key + window > query)
    }
}

/// Attention of every token to the tokens of its own sequence; queries are `[tokens, heads·dim]`, keys and values
/// `[tokens, key_values·dim]`, `offsets` says where sequences begin. Keeps its inputs and output, and one number a token and head;
/// the probabilities are computed anew.
pub(crate) fn attention(
    tape: &Tape,
    [q, k, v]: [Value; 3],
    offsets: &[usize],
    heads: Heads,
) -> Result<Value> {
    if tape.path == Path::Composed {
        return Padded::new(offsets, heads, q.tensor.device())?
            .attention([&q.tensor, &k.tensor, &v.tensor]);
    }
    if let Some(counter) = &tape.counter {
        return counter.attention(tape, &[q, k, v], offsets, heads);
    }
    let shape = q.tensor.shape().clone();
    let (tokens, width) = q.tensor.dims2()?;
    let (mut out, mut lse) = (vec![0.0; tokens * width], vec![0.0; tokens * heads.count]);
    {
        let qkv = Qkv {
            q: &slice(&q.tensor)?,
            k: &slice(&k.tensor)?,
            v: &slice(&v.tensor)?,
        };
        heads.kernel(offsets).forward(&mut out, &mut lse, qkv);
    }
    if !tape.records(&[&q, &k, &v], false) {
        return Tape::constant(out, shape);
    }
    let out = Tensor::from_vec(out, shape, &Device::Cpu)?;
    let (offsets, kept) = (offsets.to_vec(), out.clone());
    Ok(tape.record_tensor(out, move |flow, dy| {
        let [mut dq, mut dk, mut dv] =
            [&q, &k, &v].map(|value| vec![0.0; value.tensor.elem_count()]);
        {
            let gradients = QkvGradients {
                dq: &mut dq,
                dk: &mut dk,
                dv: &mut dv,
            };
            let qkv = Qkv {
                q: &slice(&q.tensor)?,
                k: &slice(&k.tensor)?,
                v: &slice(&v.tensor)?,
            };
            heads.kernel(&offsets).backward(
                gradients,
                &dy,
                qkv,
                Attended {
                    out: &slice(&kept)?,
                    lse: &lse,
                },
            );
        }
        for (value, gradient) in [(&q, dq), (&k, dk), (&v, dv)] {
            flow.add(value.place(), gradient);
        }
        Ok(())
    }))
}

/// The composed form: sequences spread over `[sequences, longest]`, with what must not be seen masked.
struct Padded<'a> {
    heads: Heads,
    offsets: &'a [usize],
    longest: usize,
    device: &'a Device,
    /// Row of the packed tensor for every place of the padded one; a padded place repeats the first row of its sequence.
    spread: Tensor,
    /// Place of every packed row in the padded tensor.
    gather: Tensor,
    /// 0 where a query sees a key, else minus infinity, `[sequences, 1, longest, longest]`.
    mask: Tensor,
}

impl<'a> Padded<'a> {
    fn new(offsets: &'a [usize], heads: Heads, device: &'a Device) -> Result<Self> {
        let lengths: Vec<usize> = offsets.windows(2).map(|w| w[1] - w[0]).collect();
        let (sequences, longest) = (lengths.len(), lengths.iter().copied().max().unwrap_or(0));
        let (mut spread, mut gather, mut mask) = (Vec::new(), Vec::new(), Vec::new());
        for (sequence, length) in lengths.iter().enumerate() {
            for place in 0..longest {
                let real = place < *length;
                spread.push((offsets[sequence] + if real { place } else { 0 }) as u32);
                if real {
                    gather.push((sequence * longest + place) as u32);
                }
                // A padded query sees everything, so that its row, which nobody reads, stays finite.
                let sees = |key: usize| !real || (key < *length && heads.sees(place, key));
                mask.extend(
                    (0..longest).map(|key| if sees(key) { 0f32 } else { f32::NEG_INFINITY }),
                );
            }
        }
        let rows = gather.len();
        Ok(Self {
            heads,
            offsets,
            longest,
            device,
            spread: Tensor::from_vec(spread, sequences * longest, device)?,
            gather: Tensor::from_vec(gather, rows, device)?,
            mask: Tensor::from_vec(mask, (sequences, 1, longest, longest), device)?,
        })
    }

    fn attention(&self, [q, k, v]: [&Tensor; 3]) -> Result<Value> {
        let Heads {
            count,
            key_values,
            dim,
            dropout,
            ..
        } = self.heads;
        let (q, k, v) = (
            self.split(q, count)?,
            self.split(k, key_values)?,
            self.split(v, key_values)?,
        );
        let scores = (q.matmul(&k.t()?)? / (dim as f64).sqrt())?.broadcast_add(&self.mask)?;
        let mut probabilities = candle_nn::ops::softmax(&scores, D::Minus1)?;
        if let Some(dropout) = dropout.kernel() {
            probabilities = (probabilities * self.dropout_mask(dropout)?)?;
        }
        let mixed = probabilities
            .matmul(&v)?
            .transpose(1, 2)?
            .reshape(((), count * dim))?;
        Ok(Value::constant(mixed.index_select(&self.gather, 0)?))
    }

    /// Spreads `[tokens, n·dim]` to `[sequences, heads, longest, dim]`, repeating the heads of keys and values for their groups.
    fn split(&self, x: &Tensor, n: usize) -> Result<Tensor> {
        let (count, dim) = (self.heads.count, self.heads.dim);
        let shape = (self.offsets.len() - 1, self.longest, n, 1, dim);
        let padded = x.index_select(&self.spread, 0)?.reshape(shape)?;
        let repeated = padded.broadcast_as((shape.0, shape.1, n, count / n, dim))?;
        Ok(repeated
            .reshape((shape.0, shape.1, count, dim))?
            .transpose(1, 2)?
            .contiguous()?)
    }

    /// The factors by which the fused kernel multiplies its probabilities, `[sequences, heads, longest, longest]`.
    fn dropout_mask(&self, dropout: taper_kernels::Dropout) -> Result<Tensor> {
        let (heads, longest, sequences) = (self.heads.count, self.longest, self.offsets.len() - 1);
        let mut mask = vec![1f32; sequences * heads * longest * longest];
        for (index, row) in mask.chunks_exact_mut(longest).enumerate() {
            let (place, head, sequence) = (
                index % longest,
                index / longest % heads,
                index / longest / heads,
            );
            let token = self.offsets[sequence] + place;
            if token < self.offsets[sequence + 1] {
                taper_kernels::dropout_attention_row(row, dropout, token * heads + head);
            }
        }
        Ok(Tensor::from_vec(
            mask,
            (sequences, heads, longest, longest),
            self.device,
        )?)
    }
}
