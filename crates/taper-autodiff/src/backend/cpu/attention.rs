use candle_core::{Result, Tensor};
use taper_kernels as kernels;

use super::{
    Attended,
    storage::{slice, tensor},
    zeros_like,
};
use crate::backend::Heads;

fn kernel(heads: Heads, offsets: &[usize]) -> kernels::Attention<'_> {
    kernels::Attention {
        heads: heads.count,
        kv_heads: heads.key_values,
        head_dim: heads.dim,
        scale: heads.scale(),
        causal: heads.causal,
        window: heads.window,
        dropout: heads.dropout.kernel(),
        offsets,
    }
}

pub(super) fn forward(
    [q, k, v]: [&Tensor; 3],
    offsets: &[usize],
    heads: Heads,
) -> Result<Attended> {
    let (tokens, width) = q.dims2()?;
    let (mut out, mut lse) = (vec![0.0; tokens * width], vec![0.0; tokens * heads.count]);
    let qkv = kernels::Qkv {
        q: &slice(q)?,
        k: &slice(k)?,
        v: &slice(v)?,
    };
    kernel(heads, offsets).forward(&mut out, &mut lse, qkv);
    Ok(Attended {
        out: tensor(out, (tokens, width))?,
        lse: tensor(lse, (heads.count, tokens))?,
    })
}

pub(super) fn backward(
    dy: &Tensor,
    qkv: [&Tensor; 3],
    attended: &Attended,
    offsets: &[usize],
    heads: Heads,
) -> Result<[Tensor; 3]> {
    let [mut dq, mut dk, mut dv] = qkv.map(zeros_like);
    let [q, k, v] = qkv;
    kernel(heads, offsets).backward(
        kernels::QkvGradients {
            dq: &mut dq,
            dk: &mut dk,
            dv: &mut dv,
        },
        &slice(dy)?,
        kernels::Qkv {
            q: &slice(q)?,
            k: &slice(k)?,
            v: &slice(v)?,
        },
        kernels::Attended {
            out: &slice(&attended.out)?,
            lse: &slice(&attended.lse)?,
        },
    );
    Ok([
        tensor(dq, q.shape())?,
        tensor(dk, k.shape())?,
        tensor(dv, v.shape())?,
    ])
}
