//! One head of one sequence: where its elements lie, and copies of them in cache.

use std::cell::RefCell;

use super::Attention;
use crate::dropout::Mask;
use crate::microkernel::{Left, PAD};
use crate::simd;
use crate::tile::Tile;

/// Query rows whose scores are in scratch at a time.
pub(super) const BLOCK: usize = 64;

/// The geometry of one task.
#[derive(Clone, Copy)]
pub(super) struct Head {
    first: usize,
    /// Tokens of the sequence.
    pub(super) len: usize,
    head: usize,
    heads: usize,
    pub(super) dim: usize,
    pub(super) scale: f32,
    causal: bool,
    pub(super) mask: Option<Mask>,
}

/// A block of query rows.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub(super) start: usize,
    pub(super) rows: usize,
    /// How many keys any of these rows sees.
    pub(super) keys: usize,
}

impl Block {
    /// Columns of the block's scores: the keys, padded for the micro-kernel.
    pub(super) fn cols(&self) -> usize {
        self.keys.next_multiple_of(PAD)
    }
}

impl Head {
    pub(super) fn new(attention: &Attention<'_>, sequence: usize, head: usize) -> Self {
        let [first, end] = [sequence, sequence + 1].map(|i| attention.offsets[i]);
        Self {
            first,
            len: end - first,
            head,
            heads: attention.heads,
            dim: attention.head_dim,
            scale: attention.scale,
            causal: attention.causal,
            mask: attention.dropout.map(Mask::new),
        }
    }

    /// Elements from one token to the next.
    fn stride(&self) -> usize {
        self.heads * self.dim
    }

    /// Tokens, padded for the micro-kernel.
    pub(super) fn padded_len(&self) -> usize {
        self.len.next_multiple_of(PAD)
    }

    /// Elements of a token, padded for the micro-kernel.
    pub(super) fn padded_dim(&self) -> usize {
        self.dim.next_multiple_of(PAD)
    }

    pub(super) fn blocks(self) -> impl Iterator<Item = Block> {
        (0..self.len).step_by(BLOCK).map(move |start| {
            let rows = BLOCK.min(self.len - start);
            let keys = if self.causal { start + rows } else { self.len };
            Block { start, rows, keys }
        })
    }

    /// How many keys the query row sees.
    pub(super) fn visible(&self, row: usize) -> usize {
        if self.causal { row + 1 } else { self.len }
    }

    /// The number of a row of probabilities in the whole batch, for its dropout.
    pub(super) fn number(&self, row: usize) -> usize {
        (self.first + row) * self.heads + self.head
    }

    /// Returns one token of an activation.
    #[inline(always)]
    pub(super) fn row<'a>(&self, activation: &'a [f32], row: usize) -> &'a [f32] {
        let start = (self.first + row) * self.stride() + self.head * self.dim;
        &activation[start..][..self.dim]
    }

    /// Sees an activation from a row on as the left operand of a product.
    pub(super) fn left<'a>(&self, activation: &'a [f32], row: usize) -> Left<'a> {
        let start = (self.first + row) * self.stride() + self.head * self.dim;
        Left::new(&activation[start..], self.stride())
    }

    /// Returns this head's `lse` from the `[heads, tokens]` of the batch.
    pub(super) fn lse<'a>(&self, lse: &'a [f32]) -> &'a [f32] {
        let tokens = lse.len() / self.heads;
        &lse[self.head * tokens + self.first..][..self.len]
    }

    /// Returns this head's part of an activation that is written.
    ///
    /// # Safety
    /// Nothing else may touch these elements meanwhile.
    #[expect(unsafe_code, reason = "the caller runs each head once")]
    pub(super) unsafe fn part<'a>(&self, activation: &Tile<'a>) -> Tile<'a> {
        let columns = (self.head * self.dim, (self.head + 1) * self.dim);
        // SAFETY: the promise is handed on.
        unsafe { activation.part((self.first, self.first + self.len), columns) }
    }

    /// Returns this head's part of `lse`.
    ///
    /// # Safety
    /// Nothing else may touch these elements meanwhile.
    #[expect(unsafe_code, reason = "the caller runs each head once")]
    pub(super) unsafe fn lse_part<'a>(&self, lse: &Tile<'a>) -> Tile<'a> {
        let tokens = (self.first, self.first + self.len);
        // SAFETY: the promise is handed on.
        unsafe { lse.part((self.head, self.head + 1), tokens) }
    }

    /// Copies rows of an activation, times `factor`, to `[rows, padded_dim]`; the padding is zero.
    pub(super) fn copy(&self, out: &mut [f32], activation: &[f32], start: usize, factor: f32) {
        simd::dispatch(
            #[inline(always)]
            || {
                for (i, out) in out.chunks_exact_mut(self.padded_dim()).enumerate() {
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

    /// Copies all rows of an activation, times `factor`, transposed to `[dim, padded_len]`; the
    /// padding holds copies of the last row.
    pub(super) fn copy_transposed(&self, out: &mut [f32], activation: &[f32], factor: f32) {
        let cols = self.padded_len();
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

    /// Copies padded rows, times `factor`, to the tokens of an activation from `start` on.
    pub(super) fn store(&self, out: &mut Tile<'_>, start: usize, rows: &[f32], factor: f32) {
        simd::dispatch(
            #[inline(always)]
            || {
                for (i, row) in rows.chunks_exact(self.padded_dim()).enumerate() {
                    for (out, &x) in out.row(start + i).iter_mut().zip(row) {
                        *out = factor * x;
                    }
                }
            },
        )
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Lends buffers of the given sizes, holding anything; the memory stays with the thread.
pub(super) fn with_scratch<const N: usize, R>(
    sizes: [usize; N],
    f: impl FnOnce([&mut [f32]; N]) -> R,
) -> R {
    SCRATCH.with_borrow_mut(|scratch| {
        let total = sizes.iter().sum();
        if scratch.len() < total {
            scratch.resize(total, 0.0);
        }
        let mut rest = &mut scratch[..];
        f(sizes.map(|size| {
            rest.split_off_mut(..size)
                .expect("scratch is as long as the sizes together")
        }))
    })
}
