//! Dropout whose mask is a pure function of a key and the element's index.
//!
//! No mask is stored: backward asks for the same decisions again, on any number of threads. The
//! generator mixes the key with the number of the element's block (64-bit, once per block) and
//! then the place inside the block (32-bit, vectorised).

use rayon::prelude::*;

use crate::parallel::piece_len;
use crate::simd;

/// Elements that share one mixed key.
const BLOCK: usize = 1024;

/// Drops elements with probability `p` and scales the rest by `1 / (1 - p)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability to drop an element, in `0..1`.
    pub p: f32,
    /// Which mask, see [`key`]; equal keys give equal masks.
    pub key: u64,
}

/// Returns the key of the mask of one dropout site (`layer`, `site`) in one step of a run.
pub fn key(seed: u64, step: u64, layer: u64, site: u64) -> u64 {
    [step, layer, site]
        .into_iter()
        .fold(mix64(seed), |key, part| mix64(key ^ mix64(part)))
}

/// Computes `out = x`, each element dropped or scaled. The gradient is the same operation on `dy`.
pub fn dropout(out: &mut [f32], x: &[f32], dropout: Dropout) {
    assert_eq!(out.len(), x.len(), "lengths of a dropout");
    let mask = Mask::new(dropout);
    let piece = piece_len(x.len(), BLOCK);
    let pieces = out.par_chunks_mut(piece).zip(x.par_chunks(piece));
    pieces.enumerate().for_each(|(i, (out, x))| {
        simd::dispatch(
            #[inline(always)]
            || mask.combine(i * piece, out, x, |_, x, factor| x * factor),
        )
    });
}

/// Drops or scales each element of `x` where it lies.
pub fn dropout_in_place(x: &mut [f32], dropout: Dropout) {
    let mask = Mask::new(dropout);
    let piece = piece_len(x.len(), BLOCK);
    x.par_chunks_mut(piece).enumerate().for_each(|(i, x)| {
        simd::dispatch(
            #[inline(always)]
            || mask.scale(i * piece, x),
        )
    });
}

/// Drops or scales a row of attention probabilities as [`Attention`](crate::Attention) does; the
/// row of `token` and `head` has the number `token * heads + head`.
pub fn dropout_attention_row(x: &mut [f32], dropout: Dropout, number: usize) {
    simd::dispatch(
        #[inline(always)]
        || Mask::new(dropout).block(number).scale(0, x),
    );
}

/// The decisions of one [`Dropout`], ready to be applied inside a kernel.
#[derive(Clone, Copy)]
pub(crate) struct Mask {
    key: u64,
    /// Elements whose 32 random bits are below this are dropped.
    threshold: u32,
    kept: f32,
}

impl Mask {
    pub(crate) fn new(Dropout { p, key }: Dropout) -> Self {
        assert!((0.0..1.0).contains(&p), "a dropout of {p} is not in 0..1");
        let threshold = (f64::from(p) * 2.0f64.powi(32)) as u32;
        Self {
            key,
            threshold,
            kept: 1.0 / (1.0 - p),
        }
    }

    /// Sets `x[i] = op(x[i], y[i], factor)`, where `x[0]` is the element number `start`.
    #[inline(always)]
    pub(crate) fn combine(
        self,
        start: usize,
        x: &mut [f32],
        y: &[f32],
        op: impl Fn(f32, f32, f32) -> f32,
    ) {
        let mut done = 0;
        while done < x.len() {
            let place = (start + done) % BLOCK;
            let end = (done + BLOCK - place).min(x.len());
            let block = self.block((start + done) / BLOCK);
            let places = place as u32..BLOCK as u32;
            for ((x, &y), place) in x[done..end].iter_mut().zip(&y[done..end]).zip(places) {
                *x = op(*x, y, block.factor(place));
            }
            done = end;
        }
    }

    /// Multiplies `x[i]` by the factor of the element number `start + i`.
    #[inline(always)]
    fn scale(self, start: usize, x: &mut [f32]) {
        let mut done = 0;
        while done < x.len() {
            let place = (start + done) % BLOCK;
            let end = (done + BLOCK - place).min(x.len());
            let block = self.block((start + done) / BLOCK);
            block.scale(place as u32, &mut x[done..end]);
            done = end;
        }
    }

    /// Returns the decisions of one block: of a whole row where rows are numbered by the caller.
    #[inline(always)]
    pub(crate) fn block(self, number: usize) -> Block {
        let mixed = mix64(self.key ^ mix64(number as u64));
        Block {
            low: mixed as u32,
            high: (mixed >> 32) as u32,
            mask: self,
        }
    }
}

/// The decisions inside one block.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    low: u32,
    high: u32,
    mask: Mask,
}

impl Block {
    /// Multiplies `x[i]` by the factor of the place `first + i`.
    #[inline(always)]
    pub(crate) fn scale(self, first: u32, x: &mut [f32]) {
        for (i, x) in x.iter_mut().enumerate() {
            *x *= self.factor(first.wrapping_add(i as u32));
        }
    }

    /// Returns what the element is multiplied by: zero, or the scale of those kept.
    #[inline(always)]
    pub(crate) fn factor(self, place: u32) -> f32 {
        let mut bits = place.wrapping_mul(0x9E37_79B9).wrapping_add(self.low);
        bits = (bits ^ (bits >> 16)).wrapping_mul(0x21F0_AAAD) ^ self.high;
        bits = (bits ^ (bits >> 15)).wrapping_mul(0x735A_2D97);
        bits ^= bits >> 15;
        if bits < self.mask.threshold {
            0.0
        } else {
            self.mask.kept
        }
    }
}

/// The finalizer of splitmix64: every bit of the result depends on every bit of the input.
#[inline(always)]
fn mix64(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{on_threads, random};

    fn mask(len: usize, dropout: Dropout) -> Vec<f32> {
        let mut ones = vec![1.0; len];
        dropout_in_place(&mut ones, dropout);
        ones
    }

    #[test]
    fn keeps_the_asked_share_and_the_expected_sum() {
        for p in [0.1, 0.5, 0.9] {
            let len = 1 << 20;
            let mask = mask(
                len,
                Dropout {
                    p,
                    key: key(7, 3, 1, 2),
                },
            );
            let dropped = mask.iter().filter(|&&x| x == 0.0).count() as f64 / len as f64;
            // Six standard deviations.
            let bound = 6.0 * (f64::from(p) * f64::from(1.0 - p) / len as f64).sqrt();
            assert!((dropped - f64::from(p)).abs() < bound, "{dropped} of {p}");
            let kept = 1.0 / (1.0 - p);
            assert!(mask.iter().all(|&x| x == 0.0 || x == kept));
        }
    }

    #[test]
    fn neighbours_steps_and_sites_are_independent() {
        let len = 1 << 20;
        let base = mask(
            len,
            Dropout {
                p: 0.5,
                key: key(1, 1, 1, 1),
            },
        );
        let agreement = |a: &[f32], b: &[f32]| {
            a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / a.len().min(b.len()) as f64
        };
        let bound = 6.0 * 0.5 / (len as f64).sqrt();
        for other in [
            key(2, 1, 1, 1),
            key(1, 2, 1, 1),
            key(1, 1, 2, 1),
            key(1, 1, 1, 2),
        ] {
            let share = agreement(&base, &mask(len, Dropout { p: 0.5, key: other }));
            assert!((share - 0.5).abs() < bound, "{share}");
        }
        for shift in [1, 2, 16, 384, BLOCK, 4 * BLOCK] {
            let share = agreement(&base, &base[shift..]);
            assert!((share - 0.5).abs() < 2.0 * bound, "shift {shift}: {share}");
        }
    }

    #[test]
    fn the_mask_is_the_same_on_any_threads_and_in_any_cut() {
        let dropout = Dropout { p: 0.3, key: 5 };
        let len = 100_003;
        let whole = on_threads(1, || mask(len, dropout));
        assert_eq!(whole, on_threads(2, || mask(len, dropout)));
        let x = random(1, len);
        let mut out = vec![f32::NAN; len];
        on_threads(2, || super::dropout(&mut out, &x, dropout));
        let want: Vec<f32> = whole.iter().zip(&x).map(|(m, x)| m * x).collect();
        assert_eq!(out, want);
        let mut piece = vec![1.0; 3000];
        Mask::new(dropout).scale(777, &mut piece);
        assert_eq!(piece, whole[777..3777]);
    }

    #[test]
    fn no_dropout_changes_nothing() {
        assert!(
            mask(5000, Dropout { p: 0.0, key: 9 })
                .iter()
                .all(|&x| x == 1.0)
        );
    }

    #[test]
    #[should_panic(expected = "not in 0..1")]
    fn refuses_to_drop_everything() {
        dropout_in_place(&mut [1.0], Dropout { p: 1.0, key: 0 });
    }
}
