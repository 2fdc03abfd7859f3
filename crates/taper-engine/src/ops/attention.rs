use candle_core::{D, Tensor};
use taper_kernels as kernels;

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
    fn kernel(self, offsets: &[usize]) -> kernels::Attention<'_> {
        kernels::Attention {
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
pub(crate) fn attention(tape: &Tape, q: Value, k: Value, v: Value, offsets: &[usize], heads: Heads) -> Result<Value> {
    if tape.path == Path::Composed {
        return composed([&q.tensor, &k.tensor, &v.tensor], offsets, heads);
    }
    let shape = q.tensor.shape().clone();
    let (tokens, width) = q.tensor.dims2()?;
    let (mut out, mut saved) = (vec![0.0; tokens * width], vec![0.0; tokens * heads.count]);
    heads.kernel(offsets).forward(&mut out, &mut saved, &slice(&q.tensor)?, &slice(&k.tensor)?, &slice(&v.tensor)?);
    if !tape.records(&[&q, &k, &v], &[]) {
        return Tape::constant(out, shape);
    }
    let (offsets, kept) = (offsets.to_vec(), out.clone());
    tape.record(out, shape, move |flow, dy| {
        let [mut dq, mut dk, mut dv] = [(); 3].map(|()| vec![0.0; tokens * width]);
        let (q_data, k_data, v_data) = (slice(&q.tensor)?, slice(&k.tensor)?, slice(&v.tensor)?);
        let forward = kernels::Saved { q: &q_data, k: &k_data, v: &v_data, out: &kept, lse: &saved };
        heads.kernel(&offsets).backward(&mut dq, &mut dk, &mut dv, &dy, forward);
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
        x.index_select(&spread, 0)?.reshape((sequences, longest, heads.count, heads.dim))?.transpose(1, 2)?.contiguous()
    };
    let (q, k, v) = (split(q)?, split(k)?, split(v)?);
    let scores = (q.matmul(&k.t()?)? / (heads.dim as f64).sqrt())?.broadcast_add(&mask)?;
    let probabilities = candle_nn::ops::softmax(&scores, D::Minus1)?;
    let probabilities = heads.dropout.composed(&probabilities)?;
    let mixed = probabilities.matmul(&v)?.transpose(1, 2)?.reshape((sequences * longest, heads.count * heads.dim))?;
    let gather = Tensor::from_vec(gather, lengths.iter().sum::<usize>(), device)?;
    Ok(Value::constant(mixed.index_select(&gather, 0)?))
}
