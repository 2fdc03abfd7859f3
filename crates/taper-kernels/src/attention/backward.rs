//! The backward pass of the heads that share one head of keys and values.
//!
//! With `P` the probabilities, `M` the factors of dropout and `∘` the product by elements:
//! `dV = (P∘M)ᵀ·dO`, `dP = M∘(dO·Vᵀ)`, `dS = P∘(dP − rowsum(dO∘O))`, `dQ = scale·dS·K`,
//! `dK = scale·dSᵀ·Q`; `dV` and `dK` are summed over the heads in their order.

use super::columns::store;
use super::head::{BLOCK, Block, Head, with_scratch};
use super::{Attended, Qkv};
use crate::dropout;
use crate::math;
use crate::microkernel::{Left, PAD, Right, Target, multiply};
use crate::simd;
use crate::tile::Tile;

/// Writes the gradients of the queries of a group of heads, of which `head` is the first, and of
/// the group's keys and values.
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
        head.keys().copy_transposed(keys_t, qkv.k, head.scale);
        head.keys().copy_transposed(values_t, qkv.v, 1.0);
        head.keys().copy(keys, qkv.k, 0, head.scale);
        dkeys.fill(0.0);
        dvalues.fill(0.0);
        for i in 0..dq.cols() / head.dim {
            let (head, mut dq) = (head.sibling(i), dq.columns(i * head.dim, head.dim));
            let queries = head.queries();
            for block in head.blocks() {
                multiply_by_keys(head, block, p, qkv.q, keys_t);
                multiply_by_keys(head, block, ds, dout, values_t);
                score_gradients(head, block, (p, ds), (dout, attended));

                let keys = Right::new(&keys[block.first_key * dim..], dim);
                let size = [block.rows, block.keys, dim];
                multiply(Target::set(rows, dim), Left::new(ds, len), keys, size);
                store(&mut dq, block.start, &rows[..block.rows * dim], 1.0);

                let rows = &mut rows[..block.rows * dim];
                queries.copy(rows, dout, block.start, 1.0);
                add_by_rows(head, block, dvalues, p, rows);
                queries.copy(rows, qkv.q, block.start, 1.0);
                add_by_rows(head, block, dkeys, ds, rows);
            }
        }
        store(&mut dk, 0, dkeys, head.scale);
        store(&mut dv, 0, dvalues, 1.0);
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
    let left = head.queries().left(activation, block.start);
    let right = Right::new(&transposed[block.first_key..], len);
    let size = [block.rows, head.dim, block.cols()];
    multiply(Target::set(out, len), left, right, size);
}

/// Adds to each key of `out` the rows of the block, weighted by what the rows gave to the key.
fn add_by_rows(head: Head, block: Block, out: &mut [f32], weights: &[f32], rows: &[f32]) {
    let dim = head.padded_dim();
    let out = Target::add(&mut out[block.first_key * dim..], dim);
    let weights = Left::transposed(weights, head.padded_len());
    let size = [block.keys, block.rows, dim];
    multiply(out, weights, Right::new(rows, dim), size);
}

/// Turns scores into dropped-out probabilities, and gradients of those into gradients of scores.
fn score_gradients(
    head: Head,
    block: Block,
    (p, ds): (&mut [f32], &mut [f32]),
    (dout, attended): (&[f32], Attended<'_>),
) {
    let lse = &head.lse(attended.lse)[block.start..][..block.rows];
    let (queries, len) = (head.queries(), head.padded_len());
    let rows = p
        .chunks_exact_mut(len)
        .zip(ds.chunks_exact_mut(len))
        .zip(lse);
    simd::dispatch(
        #[inline(always)]
        || {
            for (i, ((p, ds), &lse)) in rows.enumerate() {
                let row = block.start + i;
                let dout = queries.row(dout, row);
                let delta = simd::sum2(dout, queries.row(attended.out, row), |a, b| a * b);
                // The whole padded width at once: loops without a remainder are the fastest.
                let (p, ds) = (&mut p[..block.cols()], &mut ds[..block.cols()]);
                match head.mask {
                    None => plain_row(p, ds, lse, delta),
                    Some(mask) => {
                        let decisions = mask.block(head.number(row));
                        dropped_row(p, ds, (lse, delta), (decisions, block.first_key));
                    }
                }
                head.fill_unseen(p, block, row, 0.0);
                head.fill_unseen(ds, block, row, 0.0);
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
fn dropped_row(
    p: &mut [f32],
    ds: &mut [f32],
    (lse, delta): (f32, f32),
    (mask, first_key): (dropout::Block, usize),
) {
    for ((p, ds), place) in p.iter_mut().zip(&mut *ds).zip(first_key as u32..u32::MAX) {
        let factor = mask.factor(place);
        let whole = math::exp(*p - lse);
        *p = whole * factor;
        *ds = whole * (*ds * factor - delta);
    }
}
