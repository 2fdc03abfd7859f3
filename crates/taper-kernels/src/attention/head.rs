//! One head of one sequence: which keys its queries see, and the scratch it works in.

use std::cell::RefCell;

use super::Attention;
use super::columns::Columns;
use crate::dropout::Mask;
use crate::microkernel::PAD;
use crate::tile::Tile;

/// Query rows whose scores are in scratch at a time.
pub(super) const BLOCK: usize = 64;

/// The geometry of one head of queries.
#[derive(Clone, Copy)]
pub(super) struct Head {
    first: usize,
    /// Tokens of the sequence.
    pub(super) len: usize,
    head: usize,
    heads: usize,
    kv_heads: usize,
    pub(super) dim: usize,
    pub(super) scale: f32,
    causal: bool,
    window: Option<usize>,
    pub(super) mask: Option<Mask>,
}

/// A block of query rows.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub(super) start: usize,
    pub(super) rows: usize,
    /// The first key that the scores of the block begin with, a multiple of [`PAD`].
    pub(super) first_key: usize,
    /// How many keys follow from there until the last that any of these rows sees.
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
            kv_heads: attention.kv_heads,
            dim: attention.head_dim,
            scale: attention.scale,
            causal: attention.causal,
            window: attention.window,
            mask: attention.dropout.map(Mask::new),
        }
    }

    /// Where the queries lie, and all that is of their shape.
    pub(super) fn queries(&self) -> Columns {
        Columns {
            first: self.first,
            len: self.len,
            head: self.head,
            heads: self.heads,
            dim: self.dim,
        }
    }

    /// Where the keys and values lie that the queries see.
    pub(super) fn keys(&self) -> Columns {
        Columns {
            head: self.head / (self.heads / self.kv_heads),
            heads: self.kv_heads,
            ..self.queries()
        }
    }

    /// Returns the head `i` places after this one, in the same sequence.
    pub(super) fn sibling(self, i: usize) -> Self {
        Self {
            head: self.head + i,
            ..self
        }
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
            let first_key = self.seen(start).0 / PAD * PAD;
            let keys = self.seen(start + rows - 1).1 - first_key;
            Block {
                start,
                rows,
                first_key,
                keys,
            }
        })
    }

    /// The keys that the query row sees, as `(first, end)`.
    fn seen(&self, row: usize) -> (usize, usize) {
        let end = if self.causal { row + 1 } else { self.len };
        let first = self.window.map_or(0, |window| end.saturating_sub(window));
        (first, end)
    }

    /// Fills the places of a row of the block's scores whose keys the row does not see.
    #[inline(always)]
    pub(super) fn fill_unseen(&self, scores: &mut [f32], block: Block, row: usize, value: f32) {
        let (first, end) = self.seen(row);
        scores[..first - block.first_key].fill(value);
        scores[end - block.first_key..].fill(value);
    }

    /// The number of a row of probabilities in the whole batch, for its dropout.
    pub(super) fn number(&self, row: usize) -> usize {
        (self.first + row) * self.heads + self.head
    }

    /// Returns this head's `lse` from the `[heads, tokens]` of the batch.
    pub(super) fn lse<'a>(&self, lse: &'a [f32]) -> &'a [f32] {
        let tokens = lse.len() / self.heads;
        &lse[self.head * tokens + self.first..][..self.len]
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
