//! How normalisations work through their rows: in pieces for the threads, with sums over rows in blocks of a fixed size.

use rayon::prelude::*;

use crate::dropout::Mask;
use crate::norm::{Normalised, Residual};
use crate::parallel::piece_len;
use crate::simd;

/// What the rows of a normalisation look like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    /// Elements of a row.
    pub(crate) cols: usize,
    /// Statistics that are kept of each.
    pub(crate) stats: usize,
}

impl Rows {
    /// Hands pieces of result, statistics and input to `normalise`, each with whole rows.
    #[inline(always)]
    pub(crate) fn normalise(
        self,
        out: &mut [f32],
        stats: &mut [f32],
        x: &[f32],
        normalise: impl Fn(&mut [f32], &mut [f32], &[f32]) + Sync,
    ) {
        self.check(&[out.len(), x.len()], stats.len());
        let piece = piece_len(x.len(), self.cols);
        (
            out.par_chunks_mut(piece),
            stats.par_chunks_mut(piece / self.cols * self.stats),
            x.par_chunks(piece),
        )
            .into_par_iter()
            .for_each(|(out, stats, x)| {
                simd::dispatch(
                    #[inline(always)]
                    || normalise(out, stats, x),
                )
            });
    }

    /// As [`Self::normalise`], after `x = dropout(x) + residual`.
    #[inline(always)]
    pub(crate) fn add_and_normalise(
        self,
        out: &mut [f32],
        stats: &mut [f32],
        x: &mut [f32],
        residual: Residual<'_>,
        normalise: impl Fn(&mut [f32], &mut [f32], &[f32]) + Sync,
    ) {
        self.check(&[out.len(), x.len()], stats.len());
        assert_eq!(residual.values.len(), x.len(), "length of a residual");
        let mask = residual.dropout.map(Mask::new);
        let piece = piece_len(x.len(), self.cols);
        (
            out.par_chunks_mut(piece),
            stats.par_chunks_mut(piece / self.cols * self.stats),
            x.par_chunks_mut(piece),
            residual.values.par_chunks(piece),
        )
            .into_par_iter()
            .enumerate()
            .for_each(|(i, (out, stats, x, residual))| {
                simd::dispatch(
                    #[inline(always)]
                    || {
                        let residual = residual.chunks_exact(self.cols);
                        let rows = x.chunks_exact_mut(self.cols).zip(residual);
                        for (r, (x, residual)) in rows.enumerate() {
                            add_branch(x, residual, mask, i * piece + r * self.cols);
                        }
                        normalise(out, stats, x);
                    },
                )
            });
    }

    /// Hands blocks of `rows` rows to `backward`, each with a buffer of `sums` numbers for what is summed over its rows. Returns these
    /// buffers end to end: the order of the sums does not depend on the number of threads.
    #[inline(always)]
    pub(crate) fn backward(
        self,
        dx: &mut [f32],
        dy: &[f32],
        saved: Normalised<'_>,
        [rows, sums]: [usize; 2],
        backward: impl Fn(&mut [f32], &mut [f32], &[f32], Normalised<'_>) + Sync,
    ) -> Vec<f32> {
        self.check(&[dx.len(), dy.len(), saved.x.len()], saved.stats.len());
        let block = rows * self.cols;
        let mut partial = vec![0.0; dx.len().div_ceil(block) * sums];
        (
            dx.par_chunks_mut(block),
            partial.par_chunks_mut(sums),
            dy.par_chunks(block),
            saved.x.par_chunks(block),
            saved.stats.par_chunks(rows * self.stats),
        )
            .into_par_iter()
            .for_each(|(dx, partial, dy, x, stats)| {
                simd::dispatch(
                    #[inline(always)]
                    || backward(dx, partial, dy, Normalised { x, stats }),
                )
            });
        partial
    }

    fn check(self, lengths: &[usize], stats: usize) {
        assert!(self.cols > 0, "a normalisation over no elements");
        let len = lengths[0];
        assert_eq!(len % self.cols, 0, "rows of {} elements", self.cols);
        for &other in lengths {
            assert_eq!(other, len, "lengths of the rows of a normalisation");
        }
        assert_eq!(
            stats,
            len / self.cols * self.stats,
            "length of the statistics of a normalisation"
        );
    }
}

/// Sets `x = dropout(x) + residual`, where `x[0]` is the element number `start`.
#[inline(always)]
fn add_branch(x: &mut [f32], residual: &[f32], mask: Option<Mask>, start: usize) {
    match mask {
        Some(mask) => mask.combine(start, x, residual, |x, residual, factor| {
            x.mul_add(factor, residual)
        }),
        None => simd::add(x, residual),
    }
}
