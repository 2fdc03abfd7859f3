use candle_core::{D, Device, Tensor};
use taper_kernels::{Attended, Attention, Qkv, QkvGradients};

use super::Dropout;
use crate::{
    Result,
    tape::{Path, Tape, Value, slice},
};

/// How the width of queries, keys and values is split, and the dropout on the attention probabilities.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    pub(crate) count: usize,
    pub(crate) dim: usize,
    pub(crate) dropout: Dropout,
}

impl Heads {
    fn kernel(self, offsets: &[usize]) -> Attention<'_> {
        Attention {
            heads: self.count,
            head_dim: self.dim,
            scale: 1.0 / (self.dim as f32).sqrt(),
            causal: false,
            dropout: self.dropout.kernel(),
            offsets,
        }
    }
}

/// Attention of every token to all tokens of its own sequence; queries, keys and values are `[tokens, heads·dim]`, `offsets` says
/// where sequences begin. Keeps its inputs and output, and one number a token and head; the probabilities are computed anew.
pub(crate) fn attention(
    tape: &Tape,
    q: Value,
    k: Value,
    v: Value,
    offsets: &[usize],
    heads: Heads,
) -> Result<Value> {
    if tape.path == Path::Composed {
        return composed([&q.tensor, &k.tensor, &v.tensor], offsets, heads);
    }
    let shape = q.tensor.shape().clone();
    let (tokens, width) = q.tensor.dims2()?;
    let (mut out, mut lse) = (vec![0.0; tokens * width], vec![0.0; tokens * heads.count]);
    heads.kernel(offsets).forward(
        &mut out,
        &mut lse,
        Qkv {
            q: &slice(&q.tensor)?,
            k: &slice(&k.tensor)?,
            v: &slice(&v.tensor)?,
        },
    );
    if !tape.records(&[&q, &k, &v], &[]) {
        return Tape::constant(out, shape);
    }
    let (offsets, kept) = (offsets.to_vec(), out.clone());
    tape.record(out, shape, move |flow, dy| {
        let [mut dq, mut dk, mut dv] = [(); 3].map(|()| vec![0.0; tokens * width]);
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
                out: &kept,
                lse: &lse,
            },
        );
        for (value, gradient) in [(&q, dq), (&k, dk), (&v, dv)] {
            flow.add(value, gradient);
        }
        Ok(())
    })
}

/// The same with padding: sequences are spread over `[sequences, longest]`, padded keys are masked, and the real rows picked again.
fn composed([q, k, v]: [&Tensor; 3], offsets: &[usize], heads: Heads) -> Result<Value> {
    let device = q.device();
    let lengths: Vec<usize> = offsets.windows(2).map(|w| w[1] - w[0]).collect();
    let (sequences, longest) = (lengths.len(), lengths.iter().copied().max().unwrap_or(0));
    // Row of the packed tensor for every place of the padded one (a padded place repeats the first row of its sequence), and back.
    let (mut spread, mut mask, mut gather) = (Vec::new(), Vec::new(), Vec::new());
    for (s, length) in lengths.iter().enumerate() {
        for place in 0..longest {
            let real = place < *length;
            spread.push((offsets[s] + if real { place } else { 0 }) as u32);
            mask.push(if real { 0f32 } else { f32::NEG_INFINITY });
            if real {
                gather.push((s * longest + place) as u32);
            }
        }
    }
    let spread = Tensor::from_vec(spread, sequences * longest, device)?;
    let mask = Tensor::from_vec(mask, (sequences, 1, 1, longest), device)?;
    let split = |x: &Tensor| -> candle_core::Result<Tensor> {
        x.index_select(&spread, 0)?
            .reshape((sequences, longest, heads.count, heads.dim))?
            .transpose(1, 2)?
            .contiguous()
    };
    let (q, k, v) = (split(q)?, split(k)?, split(v)?);
    let scores = (q.matmul(&k.t()?)? / (heads.dim as f64).sqrt())?.broadcast_add(&mask)?;
    let probabilities = candle_nn::ops::softmax(&scores, D::Minus1)?;
    let probabilities = match heads.dropout.kernel() {
        Some(dropout) => {
            (probabilities * dropout_mask(dropout, offsets, heads.count, longest, device)?)?
        }
        None => probabilities,
    };
    let mixed = probabilities
        .matmul(&v)?
        .transpose(1, 2)?
        .reshape((sequences * longest, heads.count * heads.dim))?;
    let gather = Tensor::from_vec(gather, lengths.iter().sum::<usize>(), device)?;
    Ok(Value::constant(mixed.index_select(&gather, 0)?))
}

/// The factors by which the fused kernel multiplies its probabilities, `[sequences, heads, longest, longest]`.
fn dropout_mask(
    dropout: taper_kernels::Dropout,
    offsets: &[usize],
    heads: usize,
    longest: usize,
    device: &Device,
) -> Result<Tensor> {
    let sequences = offsets.len() - 1;
    let mut mask = vec![1f32; sequences * heads * longest * longest];
    for (index, row) in mask.chunks_exact_mut(longest).enumerate() {
        let (place, head, sequence) = (
            index % longest,
            index / longest % heads,
            index / longest / heads,
        );
        let token = offsets[sequence] + place;
        if token < offsets[sequence + 1] {
            let length = offsets[sequence + 1] - offsets[sequence];
            taper_kernels::dropout_attention_row(&mut row[..length], dropout, token * heads + head);
        }
    }
    Ok(Tensor::from_vec(
        mask,
        (sequences, heads, longest, longest),
        device,
    )?)
}
