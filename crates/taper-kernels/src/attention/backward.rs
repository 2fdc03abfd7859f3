//! One head's backward pass.
//!
//! With `P` the probabilities, `M` the factors of dropout and `∘` the product by elements:
//! `dV = (P∘M)ᵀ·dO`, `dP = M∘(dO·Vᵀ)`, `dS = P∘(dP − rowsum(dO∘O))`, `dQ = scale·dS·K`,
//! `dK = scale·dSᵀ·Q`.

use super::head::{BLOCK, Block, Head, with_scratch};
use super::{Attended, Qkv};
use crate::dropout;
use crate::math;
use crate::microkernel::{Left, PAD, Right, Target, multiply};
use crate::simd;
use crate::tile::Tile;

/// Writes the gradients of one head's queries, keys and values.
pub(super) fn run(
    head: Head,
    qkv: Qkv<'_>,
    (dout, attended): (&[f32], Attended<'_>),
    [mut dq, mut dk, mut dv]: [Tile<'_>; 3],
) {
    let (len, dim) = (head.padded_len(), head.padded_dim());
    let (wide, high) = (head.dim * len, head.len * dim);
    let (scores, rows) = (BLOCK * len, BLOCK * dim);
    let sizes = [wide, wide, high, high, high, scores, scores, rows];
    with_scratch(sizes, |buffers| {
        let [keys_t, values_t, keys, dkeys, dvalues, p, ds, rows] = buffers;
        head.copy_transposed(keys_t, qkv.k, head.scale);
        head.copy_transposed(values_t, qkv.v, 1.0);
        head.copy(keys, qkv.k, 0, head.scale);
        dkeys.fill(0.0);
        dvalues.fill(0.0);
        for block in head.blocks() {
            multiply_by_keys(head, block, p, qkv.q, keys_t);
            multiply_by_keys(head, block, ds, dout, values_t);
            score_gradients(head, block, (p, ds), (dout, attended));

            let size = [block.rows, block.keys, dim];
            let (weights, right) = (Left::new(ds, len), Right::new(keys, dim));
            multiply(Target::set(rows, dim), weights, right, size);
            head.store(&mut dq, block.start, &rows[..block.rows * dim], 1.0);

            let rows = &mut rows[..block.rows * dim];
            head.copy(rows, dout, block.start, 1.0);
            add_by_rows(head, block, dvalues, p, rows);
            head.copy(rows, qkv.q, block.start, 1.0);
            add_by_rows(head, block, dkeys, ds, rows);
        }
        head.store(&mut dk, 0, dkeys, head.scale);
        head.store(&mut dv, 0, dvalues, 1.0);
    });
}

/// Multiplies the block's rows of an activation by all keys (or values) it sees, transposed.
fn multiply_by_keys(
    head: Head,
    block: Block,
    out: &mut [f32],
    activation: &[f32],
    transposed: &[f32],
) {
    let len = head.padded_len();
    let left = head.left(activation, block.start);
    let size = [block.rows, head.dim, block.cols()];
    multiply(
        Target::set(out, len),
        left,
        Right::new(transposed, len),
        size,
    );
}

/// Adds to each key of `out` the rows of the block, weighted by what the rows gave to the key.
fn add_by_rows(head: Head, block: Block, out: &mut [f32], weights: &[f32], rows: &[f32]) {
    let dim = head.padded_dim();
    let weights = Left::transposed(weights, head.padded_len());
    let size = [block.keys, block.rows, dim];
    multiply(Target::add(out, dim), weights, Right::new(rows, dim), size);
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
                // The whole padded width at once: loops without a remainder are the fastest.
                let (p, ds) = (&mut p[..block.cols()], &mut ds[..block.cols()]);
                match head.mask {
                    None => plain_row(p, ds, lse, delta),
                    Some(mask) => dropped_row(p, ds, (lse, delta), mask.block(head.number(row))),
                }
                p[head.visible(row)..].fill(0.0);
                ds[head.visible(row)..].fill(0.0);
            }
        },
    )
}

#[inline(always)]
fn plain_row(p: &mut [f32], ds: &mut [f32], lse: f32, delta: f32) {
    let registers = p.as_chunks_mut::<PAD>().0.iter_mut();
    for (p, ds) in registers.zip(ds.as_chunks_mut::<PAD>().0) {
        for (p, ds) in p.iter_mut().zip(ds) {
            *p = math::exp(*p - lse);
            *ds = *p * (*ds - delta);
        }
    }
}

#[inline(always)]
fn dropped_row(p: &mut [f32], ds: &mut [f32], (lse, delta): (f32, f32), mask: dropout::Block) {
    for ((p, ds), place) in p.iter_mut().zip(&mut *ds).zip(0..u32::MAX) {
        let factor = mask.factor(place);
        let whole = math::exp(*p - lse);
        *p = whole * factor;
        *ds = whole * (*ds * factor - delta);
    }
}
