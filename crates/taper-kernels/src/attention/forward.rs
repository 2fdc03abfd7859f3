//! One head's forward pass.

use super::Qkv;
use super::columns::store;
use super::head::{BLOCK, Block, Head, with_scratch};
use crate::math;
use crate::microkernel::{Left, PAD, Right, Target, multiply};
use crate::simd;
use crate::tile::Tile;

/// Writes the attended values of one head to `out` and its `lse`.
pub(super) fn run(head: Head, qkv: Qkv<'_>, mut out: Tile<'_>, mut lse: Tile<'_>) {
    let (len, dim) = (head.padded_len(), head.padded_dim());
    let sizes = [head.dim * len, head.len * dim, BLOCK * len, BLOCK * dim];
    with_scratch(sizes, |[keys, values, scores, sums]| {
        head.keys().copy_transposed(keys, qkv.k, head.scale);
        head.keys().copy(values, qkv.v, 0, 1.0);
        for block in head.blocks() {
            let queries = head.queries().left(qkv.q, block.start);
            let keys = Right::new(&keys[block.first_key..], len);
            let size = [block.rows, head.dim, block.cols()];
            multiply(Target::set(scores, len), queries, keys, size);
            let lse = &mut lse.row(0)[block.start..][..block.rows];
            let inverse = softmax(head, block, scores, lse);
            let weights = Left::new(scores, len);
            let values = Right::new(&values[block.first_key * dim..], dim);
            let size = [block.rows, block.keys, dim];
            multiply(Target::set(sums, dim), weights, values, size);
            for (row, inverse) in sums.chunks_exact_mut(dim).zip(inverse).take(block.rows) {
                row.iter_mut().for_each(|sum| *sum *= inverse);
            }
            store(&mut out, block.start, &sums[..block.rows * dim], 1.0);
        }
    });
}

/// Turns the scores of a block into exponentials (dropped out where asked); returns for each row
/// one over their sum before dropout.
fn softmax(head: Head, block: Block, scores: &mut [f32], lse: &mut [f32]) -> [f32; BLOCK] {
    let mut inverse = [1.0; BLOCK];
    let rows = scores.chunks_exact_mut(head.padded_len()).zip(lse);
    simd::dispatch(
        #[inline(always)]
        || {
            for (i, (scores, lse)) in rows.enumerate() {
                let row = block.start + i;
                // The whole padded width at once: loops without a remainder are the fastest.
                let scores = &mut scores[..block.cols()];
                head.fill_unseen(scores, block, row, f32::NEG_INFINITY);
                let max = simd::max(scores);
                for scores in scores.as_chunks_mut::<PAD>().0 {
                    for score in scores {
                        *score = math::exp(*score - max);
                    }
                }
                let sum = simd::sum(scores, |e| e);
                *lse = max + sum.ln();
                inverse[i] = 1.0 / sum;
                if let Some(mask) = head.mask {
                    let decisions = mask.block(head.number(row));
                    decisions.scale(block.first_key as u32, scores);
                }
            }
        },
    );
    inverse
}
