//! One head's forward pass.

use super::Qkv;
use super::head::{BLOCK, Block, Head, with_scratch};
use crate::math;
use crate::microkernel::{Left, Right, Size, Target, multiply};
use crate::simd;
use crate::tile::Tile;

/// Writes the attended values of one head to `out` and its `lse`.
pub(super) fn run(head: Head, qkv: Qkv<'_>, mut out: Tile<'_>, mut lse: Tile<'_>) {
    let (len, dim) = (head.padded_len(), head.padded_dim());
    let sizes = [head.dim * len, head.len * dim, BLOCK * len, BLOCK * dim];
    with_scratch(sizes, |[keys, values, scores, sums]| {
        head.copy_transposed(keys, qkv.k, head.scale);
        head.copy(values, qkv.v, 0, 1.0);
        for block in head.blocks() {
            let scores_size = Size {
                rows: block.rows,
                inner: head.dim,
                cols: block.cols(),
            };
            multiply(
                Target {
                    data: scores,
                    row_stride: len,
                    accumulate: false,
                },
                head.left(qkv.q, block.start),
                Right {
                    data: keys,
                    row_stride: len,
                },
                scores_size,
            );
            let lse = &mut lse.row(0)[block.start..][..block.rows];
            let denominators = softmax(head, block, scores, lse);
            multiply(
                Target {
                    data: sums,
                    row_stride: dim,
                    accumulate: false,
                },
                Left {
                    data: scores,
                    row_stride: len,
                    col_stride: 1,
                },
                Right {
                    data: values,
                    row_stride: dim,
                },
                Size {
                    rows: block.rows,
                    inner: block.keys,
                    cols: dim,
                },
            );
            for (i, sums) in sums.chunks_exact(dim).take(block.rows).enumerate() {
                let row = out.row(block.start + i);
                for (out, sum) in row.iter_mut().zip(sums) {
                    *out = sum / denominators[i];
                }
            }
        }
    });
}

/// Turns the scores of a block into exponentials (dropped out where asked); returns the sums of
/// each row before dropout.
fn softmax(head: Head, block: Block, scores: &mut [f32], lse: &mut [f32]) -> [f32; BLOCK] {
    let mut denominators = [1.0; BLOCK];
    let rows = scores.chunks_exact_mut(head.padded_len()).zip(lse);
    simd::dispatch(
        #[inline(always)]
        || {
            for (i, (scores, lse)) in rows.enumerate() {
                let row = block.start + i;
                let (seen, unseen) = scores[..block.keys].split_at_mut(head.visible(row));
                unseen.fill(0.0);
                let max = simd::max(seen);
                for score in &mut *seen {
                    *score = math::exp(*score - max);
                }
                denominators[i] = simd::sum(seen, |e| e);
                *lse = max + denominators[i].ln();
                if let Some(mask) = head.mask {
                    mask.block(head.number(row)).scale(0, seen);
                }
            }
        },
    );
    denominators
}
