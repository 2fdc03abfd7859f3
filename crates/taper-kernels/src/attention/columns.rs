//! One head's elements of one sequence in an activation, and copies of them in cache.

use crate::microkernel::{Left, PAD};
use crate::simd;
use crate::tile::Tile;

/// The columns of one head, in the rows of one sequence.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    /// The first token of the sequence.
    pub(super) first: usize,
    /// Tokens of the sequence.
    pub(super) len: usize,
    pub(super) head: usize,
    /// Heads of the activation.
    pub(super) heads: usize,
    /// Elements of a head.
    pub(super) dim: usize,
}

impl Columns {
    /// Elements from one token to the next.
    fn stride(&self) -> usize {
        self.heads * self.dim
    }

    /// Where the head's elements of a row begin.
    fn start(&self, row: usize) -> usize {
        (self.first + row) * self.stride() + self.head * self.dim
    }

    /// Returns one row.
    #[inline(always)]
    pub(super) fn row<'a>(&self, activation: &'a [f32], row: usize) -> &'a [f32] {
        &activation[self.start(row)..][..self.dim]
    }

    /// Sees an activation from a row on as the left operand of a product.
    pub(super) fn left<'a>(&self, activation: &'a [f32], row: usize) -> Left<'a> {
        Left::new(&activation[self.start(row)..], self.stride())
    }

    /// Returns these columns, and those of the `heads - 1` heads that follow, of an activation that
    /// is written.
    ///
    /// # Safety
    /// Nothing else may touch these elements meanwhile.
    #[expect(unsafe_code, reason = "the caller runs each head once")]
    pub(super) unsafe fn part<'a>(&self, activation: &Tile<'a>, heads: usize) -> Tile<'a> {
        let columns = (self.head * self.dim, (self.head + heads) * self.dim);
        // SAFETY: the promise is handed on.
        unsafe { activation.part((self.first, self.first + self.len), columns) }
    }

    /// Copies rows from `start` on, times `factor`, to `[rows, padded dim]`; the padding is zero.
    pub(super) fn copy(&self, out: &mut [f32], activation: &[f32], start: usize, factor: f32) {
        simd::dispatch(
            #[inline(always)]
            || {
                let rows = out.chunks_exact_mut(self.dim.next_multiple_of(PAD));
                for (i, out) in rows.enumerate() {
                    let (values, padding) = out.split_at_mut(self.dim);
                    let row = self.row(activation, start + i);
                    for (out, &x) in values.iter_mut().zip(row) {
                        *out = factor * x;
                    }
                    padding.fill(0.0);
                }
            },
        )
    }

    /// Copies all rows, times `factor`, transposed to `[dim, padded len]`; the padding holds copies
    /// of the last row.
    pub(super) fn copy_transposed(&self, out: &mut [f32], activation: &[f32], factor: f32) {
        let cols = self.len.next_multiple_of(PAD);
        simd::dispatch(
            #[inline(always)]
            || {
                for start in (0..self.len).step_by(PAD) {
                    let rows: [&[f32]; PAD] = std::array::from_fn(|i| {
                        self.row(activation, (start + i).min(self.len - 1))
                    });
                    for (d, out) in out.chunks_exact_mut(cols).enumerate() {
                        let out = &mut out[start..][..PAD];
                        for (out, row) in out.iter_mut().zip(&rows) {
                            *out = factor * row[d];
                        }
                    }
                }
            },
        )
    }
}

/// Copies padded rows, times `factor`, to the rows of `out` from `start` on.
pub(super) fn store(out: &mut Tile<'_>, start: usize, rows: &[f32], factor: f32) {
    let padded = out.cols().next_multiple_of(PAD);
    simd::dispatch(
        #[inline(always)]
        || {
            for (i, row) in rows.chunks_exact(padded).enumerate() {
                for (out, &x) in out.row(start + i).iter_mut().zip(row) {
                    *out = factor * x;
                }
            }
        },
    )
}
