//! Multi-head attention over packed sequences, forward and backward.
//!
//! One task is one head of one sequence (in backward all heads that share their keys, so that the
//! gradients of these are summed in a fixed order). A task works through blocks of query rows: the scores of
//! a block against all keys lie in scratch, nothing of size length × length is stored for the
//! batch. Forward keeps one number a row, the logarithm of the sum of the exponentials (`lse`),
//! from which backward computes the probabilities again.

mod backward;
mod columns;
mod forward;
mod head;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

use crate::dropout::Dropout;
use crate::tile::Tile;
use head::Head;

/// Softmax attention, `softmax(scale · q·kᵀ)·v` for every sequence and head.
///
/// Queries and results are `[tokens, heads * head_dim]`, keys and values
/// `[tokens, kv_heads * head_dim]`. The head `h` of the queries sees the head
/// `h / (heads / kv_heads)` of the keys and values.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    pub heads: usize,
    /// Heads of keys and values, a divisor of `heads`.
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Factor of the scores, usually `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// Whether a token sees only itself and those before it.
    pub causal: bool,
    /// How many keys a token sees at most, itself included: a sliding window, which must be causal.
    pub window: Option<usize>,
    /// Dropout of the probabilities.
    pub dropout: Option<Dropout>,
    /// Where the sequences begin among the tokens, and the number of tokens at the end: one value
    /// more than there are sequences.
    pub offsets: &'a [usize],
}

/// Queries, keys and values.
#[derive(Clone, Copy, Debug)]
pub struct Qkv<'a> {
    pub q: &'a [f32],
    pub k: &'a [f32],
    pub v: &'a [f32],
}

/// Gradients of queries, keys and values; all are overwritten.
#[derive(Debug)]
pub struct QkvGradients<'a> {
    pub dq: &'a mut [f32],
    pub dk: &'a mut [f32],
    pub dv: &'a mut [f32],
}

/// What forward computed.
#[derive(Clone, Copy, Debug)]
pub struct Attended<'a> {
    pub out: &'a [f32],
    /// `[heads, tokens]`.
    pub lse: &'a [f32],
}

impl Attention<'_> {
    /// Computes the attended values; writes the `[heads, tokens]` logarithms of the softmax
    /// denominators, which backward needs, to `lse`.
    pub fn forward(&self, out: &mut [f32], lse: &mut [f32], qkv: Qkv<'_>) {
        let tokens = self.check(lse.len());
        self.check_queries(&[out.len(), qkv.q.len()], tokens);
        self.check_keys(&[qkv.k.len(), qkv.v.len()], tokens);
        let out = Tile::new(out, self.heads * self.head_dim);
        let lse = Tile::new(lse, tokens);
        self.for_each_head(1, |head| {
            // SAFETY: heads are disjoint in their tokens or their columns.
            #[expect(unsafe_code, reason = "see `Tile::part`")]
            let (out, lse) = unsafe { (head.queries().part(&out, 1), head.lse_part(&lse)) };
            forward::run(head, qkv, out, lse);
        });
    }

    /// Computes the gradients of queries, keys and values from that of the attended values.
    pub fn backward(
        &self,
        gradients: QkvGradients<'_>,
        dout: &[f32],
        qkv: Qkv<'_>,
        attended: Attended<'_>,
    ) {
        let QkvGradients { dq, dk, dv } = gradients;
        let tokens = self.check(attended.lse.len());
        let queries = [dq.len(), qkv.q.len(), dout.len(), attended.out.len()];
        self.check_queries(&queries, tokens);
        self.check_keys(&[dk.len(), dv.len(), qkv.k.len(), qkv.v.len()], tokens);
        let dq = Tile::new(dq, self.heads * self.head_dim);
        let [dk, dv] = [dk, dv].map(|d| Tile::new(d, self.kv_heads * self.head_dim));
        let group = self.heads / self.kv_heads;
        self.for_each_head(group, |head| {
            let (queries, keys) = (head.queries(), head.keys());
            // SAFETY: groups of heads are disjoint in their tokens or their columns.
            #[expect(unsafe_code, reason = "see `Tile::part`")]
            let parts = unsafe {
                let [dk, dv] = [keys.part(&dk, 1), keys.part(&dv, 1)];
                [queries.part(&dq, group), dk, dv]
            };
            backward::run(head, qkv, (dout, attended), parts);
        });
    }

    /// Checks the geometry; returns the number of tokens.
    fn check(&self, lse: usize) -> usize {
        let Self {
            heads, kv_heads, ..
        } = *self;
        assert!(heads > 0 && self.head_dim > 0, "heads have elements");
        assert!(
            kv_heads > 0 && heads.is_multiple_of(kv_heads),
            "{heads} heads cannot share {kv_heads} heads of keys"
        );
        if let Some(window) = self.window {
            assert!(self.causal && window > 0, "a window of {window} looks back");
        }
        assert!(self.offsets.is_sorted(), "offsets of sequences ascend");
        assert_eq!(
            self.offsets.first(),
            Some(&0),
            "the first sequence begins at 0"
        );
        let tokens = self.offsets.last().copied().unwrap_or(0);
        assert_eq!(lse, tokens * heads, "length of lse");
        tokens
    }

    fn check_queries(&self, lengths: &[usize], tokens: usize) {
        for &len in lengths {
            let want = tokens * self.heads * self.head_dim;
            assert_eq!(len, want, "length of queries or results of attention");
        }
    }

    fn check_keys(&self, lengths: &[usize], tokens: usize) {
        for &len in lengths {
            let want = tokens * self.kv_heads * self.head_dim;
            assert_eq!(len, want, "length of keys or values of attention");
        }
    }

    /// Runs `task` for the first of every `group` heads of every sequence.
    fn for_each_head(&self, group: usize, task: impl Fn(Head) + Sync) {
        let (sequences, groups) = (self.offsets.len() - 1, self.heads / group);
        (0..sequences * groups)
            .into_par_iter()
            .for_each(|i| task(Head::new(self, i / groups, i % groups * group)));
    }
}
