use candle_core::{D, Device, Result, Tensor};

use super::{super::Attended, vjp};
use crate::backend::Heads;

pub(crate) fn attention(
    [q, k, v]: [&Tensor; 3],
    offsets: &[usize],
    heads: Heads,
) -> Result<Attended> {
    let padded = Padded::new(offsets, heads, q.device())?;
    Ok(Attended {
        out: padded.attention([q, k, v])?,
        lse: padded.lse([q, k])?,
    })
}

pub(crate) fn attention_backward(
    dy: &Tensor,
    qkv: [&Tensor; 3],
    _: &Attended,
    offsets: &[usize],
    heads: Heads,
) -> Result<[Tensor; 3]> {
    let padded = Padded::new(offsets, heads, dy.device())?;
    vjp(qkv, dy, |qkv| padded.attention(qkv))
}

/// Sequences spread over `[sequences, longest]`, with what must not be seen masked.
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

/// Tells whether the token at place `query` of a sequence sees the one at place `key`.
fn sees(heads: Heads, query: usize, key: usize) -> bool {
    (!heads.causal || key <= query) && heads.window.is_none_or(|window| key + window > query)
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
                let sees = |key: usize| !real || (key < *length && sees(heads, place, key));
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

    /// The scores of all pairs, `[sequences, heads, longest, longest]`.
    fn scores(&self, q: &Tensor, k: &Tensor) -> Result<Tensor> {
        let (q, k) = (
            self.split(q, self.heads.count)?,
            self.split(k, self.heads.key_values)?,
        );
        (q.matmul(&k.t()?)? * f64::from(self.heads.scale()))?.broadcast_add(&self.mask)
    }

    fn attention(&self, [q, k, v]: [&Tensor; 3]) -> Result<Tensor> {
        let v = self.split(v, self.heads.key_values)?;
        let mut probabilities = candle_nn::ops::softmax(&self.scores(q, k)?, D::Minus1)?;
        if let Some(dropout) = self.heads.dropout.kernel() {
            probabilities = (probabilities * self.dropout_mask(dropout)?)?;
        }
        let mixed = probabilities
            .matmul(&v)?
            .transpose(1, 2)?
            .reshape(((), self.heads.count * self.heads.dim))?;
        mixed.index_select(&self.gather, 0)
    }

    /// The logarithms of the softmax denominators, `[heads, tokens]`.
    fn lse(&self, [q, k]: [&Tensor; 2]) -> Result<Tensor> {
        let padded = self.scores(q, k)?.log_sum_exp(D::Minus1)?;
        let rows = padded
            .transpose(1, 2)?
            .reshape(((), self.heads.count))?
            .index_select(&self.gather, 0)?;
        rows.t()?.contiguous()
    }

    /// Spreads `[tokens, n·dim]` to `[sequences, heads, longest, dim]`, repeating the heads of keys and values for their groups.
    fn split(&self, x: &Tensor, n: usize) -> Result<Tensor> {
        let (count, dim) = (self.heads.count, self.heads.dim);
        let shape = (self.offsets.len() - 1, self.longest, n, 1, dim);
        let padded = x.index_select(&self.spread, 0)?.reshape(shape)?;
        let repeated = padded.broadcast_as((shape.0, shape.1, n, count / n, dim))?;
        repeated
            .reshape((shape.0, shape.1, count, dim))?
            .transpose(1, 2)?
            .contiguous()
    }

    /// The factors by which the CPU's kernel multiplies its probabilities, `[sequences, heads, longest, longest]`.
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
        Tensor::from_vec(mask, (sequences, heads, longest, longest), self.device)
    }
}
