//! Multi-head attention over packed sequences, forward and backward.
//!
//! One task is one head of one sequence. A task works through blocks of query rows: the scores of
//! a block against all keys lie in scratch, nothing of size length × length is stored for the
//! batch. Forward keeps one number a row, the logarithm of the sum of the exponentials (`lse`),
//! from which backward computes the probabilities again.

mod backward;
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
/// All activations are `[tokens, heads * head_dim]`.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    pub heads: usize,
    pub head_dim: usize,
    /// Factor of the scores, usually `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// Whether a token sees only itself and those before it.
    pub causal: bool,
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
        let tokens = self.check(
            &[out.len(), qkv.q.len(), qkv.k.len(), qkv.v.len()],
            lse.len(),
        );
        let (out, lse) = (Tile::new(out, self.hidden()), Tile::new(lse, tokens));
        self.for_each_head(|head| {
            // SAFETY: heads are disjoint in their tokens or their columns.
            #[expect(unsafe_code, reason = "see `Tile::part`")]
            let (out, lse) = unsafe { (head.part(&out), head.lse_part(&lse)) };
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
        let Qkv { q, k, v } = qkv;
        self.check(&[dq.len(), dk.len(), dv.len()], attended.lse.len());
        let inputs = [q, k, v, dout, attended.out].map(<[f32]>::len);
        self.check(&inputs, attended.lse.len());
        let [dq, dk, dv] = [dq, dk, dv].map(|d| Tile::new(d, self.hidden()));
        self.for_each_head(|head| {
            // SAFETY: heads are disjoint in their tokens or their columns.
            #[expect(unsafe_code, reason = "see `Tile::part`")]
            let parts = unsafe { [head.part(&dq), head.part(&dk), head.part(&dv)] };
            backward::run(head, qkv, (dout, attended), parts);
        });
    }

    fn hidden(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Checks the lengths; returns the number of tokens.
    fn check(&self, activations: &[usize], lse: usize) -> usize {
        assert!(self.heads > 0 && self.head_dim > 0, "heads have elements");
        assert!(self.offsets.is_sorted(), "offsets of sequences ascend");
        assert_eq!(
            self.offsets.first(),
            Some(&0),
            "the first sequence begins at 0"
        );
        let tokens = self.offsets.last().copied().unwrap_or(0);
        for &len in activations {
            assert_eq!(
                len,
                tokens * self.hidden(),
                "length of an activation of attention"
            );
        }
        assert_eq!(lse, tokens * self.heads, "length of lse");
        tokens
    }

    fn for_each_head(&self, task: impl Fn(Head) + Sync) {
        let sequences = self.offsets.len() - 1;
        (0..sequences * self.heads)
            .into_par_iter()
            .for_each(|i| task(Head::new(self, i / self.heads, i % self.heads)));
    }
}
