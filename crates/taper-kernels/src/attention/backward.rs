//! One head's backward pass.
//!
//! With `P` the probabilities, `M` the factors of dropout and `∘` the product by elements:
//! `dV = (P∘M)ᵀ·dO`, `dP = M∘(dO·Vᵀ)`, `dS = P∘(dP − rowsum(dO∘O))`, `dQ = scale·dS·K`,
//! `dK = scale·dSᵀ·Q`.

use super::head::{BLOCK, Block, Head, with_scratch};
use super::{Attended, Qkv};
use crate::math;
use crate::microkernel::{Left, Right, Size, Target, multiply};
use crate::simd;
use crate::tile::Tile;

/// Writes the gradients of one head's queries, keys and values.
pub(super) fn run(
    head: Head,
    qkv: Qkv<'_>,
    (dout, attended): (&[f32], Attended<'_>),
    [mut dq, dk, dv]: [Tile<'_>; 3],
) {
    let (len, dim) = (head.padded_len(), head.padded_dim());
    let (rows, wide) = (head.len * dim, head.dim * len);
    let sizes = [
        wide,
        wide,
        rows,
        rows,
        rows,
        BLOCK * len,
        BLOCK * len,
        BLOCK * dim,
        BLOCK * dim,
    ];
    with_scratch(sizes, |buffers| {
        let [
            keys_t,
            values_t,
            keys,
            dkeys,
            dvalues,
            p,
            ds,
            rows_a,
            rows_b,
        ] = buffers;
        head.copy_transposed(keys_t, qkv.k, head.scale);
        head.copy_transposed(values_t, qkv.v, 1.0);
        head.copy(keys, qkv.k, 0, head.scale);
        dkeys.fill(0.0);
        dvalues.fill(0.0);
        for block in head.blocks() {
            let by_keys = Size {
                rows: block.rows,
                inner: head.dim,
                cols: block.cols(),
            };
            let scores = |out, left, right| {
                let target = Target {
                    data: out,
                    row_stride: len,
                    accumulate: false,
                };
                multiply(
                    target,
                    left,
                    Right {
                        data: right,
                        row_stride: len,
                    },
                    by_keys,
                );
            };
            scores(&mut *p, head.left(qkv.q, block.start), &*keys_t);
            scores(&mut *ds, head.left(dout, block.start), &*values_t);
            score_gradients(head, block, (p, ds), (dout, attended));

            multiply(
                Target {
                    data: rows_a,
                    row_stride: dim,
                    accumulate: false,
                },
                Left {
                    data: ds,
                    row_stride: len,
                    col_stride: 1,
                },
                Right {
                    data: keys,
                    row_stride: dim,
                },
                Size {
                    rows: block.rows,
                    inner: block.keys,
                    cols: dim,
                },
            );
            store(&mut dq, block.start, &rows_a[..block.rows * dim], 1.0);

            let by_rows = Size {
                rows: block.keys,
                inner: block.rows,
                cols: dim,
            };
            let mut add = |out, left, activation| {
                head.copy(
                    &mut rows_b[..block.rows * dim],
                    activation,
                    block.start,
                    1.0,
                );
                let target = Target {
                    data: out,
                    row_stride: dim,
                    accumulate: true,
                };
                let left = Left {
                    data: left,
                    row_stride: 1,
                    col_stride: len,
                };
                multiply(
                    target,
                    left,
                    Right {
                        data: rows_b,
                        row_stride: dim,
                    },
                    by_rows,
                );
            };
            add(&mut *dvalues, &*p, dout);
            add(&mut *dkeys, &*ds, qkv.q);
        }
        for (mut out, values, factor) in [(dk, dkeys, head.scale), (dv, dvalues, 1.0)] {
            store(&mut out, 0, values, factor);
        }
    });
}

/// Turns scores into dropped-out probabilities, and gradients of those into gradients of scores.
fn score_gradients(
    head: Head,
    block: Block,
    (p, ds): (&mut [f32], &mut [f32]),
    (dout, attended): (&[f32], Attended<'_>),
) {
    let lse = &head.lse(attended.lse)[block.start..][..block.rows];
    let len = head.padded_len();
    let rows = p
        .chunks_exact_mut(len)
        .zip(ds.chunks_exact_mut(len))
        .zip(lse);
    simd::dispatch(
        #[inline(always)]
        || {
            for (i, ((p, ds), &lse)) in rows.enumerate() {
                let row = block.start + i;
                let dout = head.row(dout, row);
                let delta = simd::sum2(dout, head.row(attended.out, row), |a, b| a * b);
                let (p, p_unseen) = p[..block.keys].split_at_mut(head.visible(row));
                let (ds, ds_unseen) = ds[..block.keys].split_at_mut(head.visible(row));
                p_unseen.fill(0.0);
                ds_unseen.fill(0.0);
                match head.mask {
                    None => {
                        for (p, ds) in p.iter_mut().zip(ds) {
                            *p = math::exp(*p - lse);
                            *ds = *p * (*ds - delta);
                        }
                    }
                    Some(mask) => {
                        let mask = mask.block(head.number(row));
                        for ((p, ds), place) in p.iter_mut().zip(ds).zip(0..u32::MAX) {
                            let (factor, whole) = (mask.factor(place), math::exp(*p - lse));
                            *p = whole * factor;
                            *ds = whole * (*ds * factor - delta);
                        }
                    }
                }
            }
        },
    )
}

/// Copies padded rows, times `factor`, to the rows of `out` from `start` on.
fn store(out: &mut Tile<'_>, start: usize, rows: &[f32], factor: f32) {
    let dim = out.cols().next_multiple_of(crate::microkernel::PAD);
    for (i, row) in rows.chunks_exact(dim).enumerate() {
        for (out, &x) in out.row(start + i).iter_mut().zip(row) {
            *out = factor * x;
        }
    }
}
