//! Normalisation by the root mean square, alone and fused with the residual addition in front of it.

use crate::norm::{Normalised, Residual};
use crate::rows::Rows;
use crate::simd;

/// About how many elements make up the rows whose gradients of gamma are summed together. A
/// constant, so that the order of the sums does not depend on the number of threads.
const BLOCK_ELEMENTS: usize = 16 * 1024;

/// The parameters of a normalisation over rows of `gamma.len()` elements.
///
/// A row need not be a token: over each head (queries and keys of Qwen3) `gamma` has the length of
/// a head.
#[derive(Clone, Copy, Debug)]
pub struct RmsNorm<'a> {
    pub gamma: &'a [f32],
    /// Added to the mean square.
    pub eps: f32,
}

/// Computes `out = x gamma / sqrt(mean(x²) + eps)` for each row; writes the reciprocal root of each
/// row to `rstd`.
pub fn rms_norm(out: &mut [f32], rstd: &mut [f32], x: &[f32], norm: RmsNorm<'_>) {
    norm.rows().normalise(
        out,
        rstd,
        x,
        #[inline(always)]
        |out, rstd, x| normalise(out, rstd, x, norm),
    );
}

/// Computes `x = dropout(x) + residual` and `out = rms_norm(x)` in one pass.
///
/// The sum, which is the next residual, takes the place of `x`, the output of the branch, which
/// nothing needs any more; the residual stays as backward of the normalisation before it reads it.
pub fn add_rms_norm(
    out: &mut [f32],
    rstd: &mut [f32],
    x: &mut [f32],
    residual: Residual<'_>,
    norm: RmsNorm<'_>,
) {
    norm.rows().add_and_normalise(
        out,
        rstd,
        x,
        residual,
        #[inline(always)]
        |out, rstd, x| normalise(out, rstd, x, norm),
    );
}

/// Computes the gradient of the input of a normalisation; `saved.stats` is the `rstd` of forward.
///
/// `dgamma` is added to; `None` where frozen. After [`add_rms_norm`], `dx` plus the gradient that
/// the sum receives as the next residual is the gradient of the residual; that of the branch is
/// [`dropout`](crate::dropout()) of it.
pub fn rms_norm_backward(
    dx: &mut [f32],
    dgamma: Option<&mut [f32]>,
    dy: &[f32],
    saved: Normalised<'_>,
    gamma: &[f32],
) {
    let (cols, wanted) = (gamma.len(), dgamma.is_some());
    let partial = Rows { cols, stats: 1 }.backward(
        dx,
        dy,
        saved,
        [BLOCK_ELEMENTS.div_ceil(cols.max(1)), cols],
        #[inline(always)]
        |dx, partial, dy, saved| {
            backward_rows(dx, dy, saved, gamma);
            if wanted {
                gamma_sums(partial, dy, saved);
            }
        },
    );
    if let Some(dgamma) = dgamma {
        assert_eq!(dgamma.len(), cols, "length of dgamma");
        for block in partial.chunks_exact(cols) {
            simd::add(dgamma, block);
        }
    }
}

impl RmsNorm<'_> {
    fn rows(&self) -> Rows {
        Rows {
            cols: self.gamma.len(),
            stats: 1,
        }
    }
}

#[inline(always)]
fn normalise(out: &mut [f32], rstd: &mut [f32], x: &[f32], norm: RmsNorm<'_>) {
    let cols = norm.gamma.len();
    let scale = 1.0 / cols as f32;
    let rows = out.chunks_exact_mut(cols).zip(x.chunks_exact(cols));
    for ((out, x), rstd) in rows.zip(rstd) {
        let factor = 1.0 / simd::sum(x, |x| x * x).mul_add(scale, norm.eps).sqrt();
        *rstd = factor;
        for ((out, &x), &gamma) in out.iter_mut().zip(x).zip(norm.gamma) {
            *out = x * factor * gamma;
        }
    }
}

/// `dx = rstd (h - n mean(h n))` with `h = dy gamma` and `n` the normalised row.
#[inline(always)]
fn backward_rows(dx: &mut [f32], dy: &[f32], saved: Normalised<'_>, gamma: &[f32]) {
    let cols = gamma.len();
    let scale = 1.0 / cols as f32;
    let rows = dy.chunks_exact(cols).zip(saved.x.chunks_exact(cols));
    for ((dx, (dy, x)), &rstd) in dx.chunks_exact_mut(cols).zip(rows).zip(saved.stats) {
        for ((dx, &dy), &gamma) in dx.iter_mut().zip(dy).zip(gamma) {
            *dx = dy * gamma;
        }
        let mean_hn = simd::sum2(dx, x, |h, x| h * (x * rstd)) * scale;
        for (dx, &x) in dx.iter_mut().zip(x) {
            *dx = rstd * (*dx - x * rstd * mean_hn);
        }
    }
}

/// Adds `dy n` of the rows to `partial`.
#[inline(always)]
fn gamma_sums(partial: &mut [f32], dy: &[f32], saved: Normalised<'_>) {
    let cols = partial.len();
    let rows = dy.chunks_exact(cols).zip(saved.x.chunks_exact(cols));
    for ((dy, x), &rstd) in rows.zip(saved.stats) {
        for ((sum, &dy), &x) in partial.iter_mut().zip(dy).zip(x) {
            *sum = (x * rstd).mul_add(dy, *sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dropout::{Dropout, dropout_in_place};
    use crate::testing::{assert_close, gradient, inner, random, repeatable, wide};

    const EPS: f32 = 1e-5;
    const SHAPES: [(usize, usize); 4] = [(1, 1), (1, 5), (3, 67), (70, 16)];

    fn reference(x: &[f64], gamma: &[f64]) -> Vec<f64> {
        let cols = gamma.len();
        let row = |x: &[f64]| -> Vec<f64> {
            let square = x.iter().map(|x| x * x).sum::<f64>() / cols as f64;
            let rstd = 1.0 / (square + f64::from(EPS)).sqrt();
            x.iter().zip(gamma).map(|(x, g)| x * rstd * g).collect()
        };
        x.chunks(cols).flat_map(row).collect()
    }

    #[test]
    fn forward_and_backward_agree_with_the_definition() {
        for (rows, cols) in SHAPES {
            let (x, dy) = (random(1, rows * cols), random(4, rows * cols));
            let mut gamma = random(2, cols);
            gamma[0] = 0.0;
            let norm = RmsNorm {
                gamma: &gamma,
                eps: EPS,
            };
            let (xd, gd) = (wide(&x), wide(&gamma));
            let got = repeatable(|| {
                let (mut out, mut stats) = (vec![f32::NAN; rows * cols], vec![f32::NAN; rows]);
                rms_norm(&mut out, &mut stats, &x, norm);
                let (mut dx, mut dgamma) = (vec![f32::NAN; rows * cols], vec![1.0; cols]);
                let saved = Normalised {
                    x: &x,
                    stats: &stats,
                };
                rms_norm_backward(&mut dx, Some(&mut dgamma), &dy, saved, &gamma);
                let mut frozen = vec![f32::NAN; rows * cols];
                rms_norm_backward(&mut frozen, None, &dy, saved, &gamma);
                assert_eq!(dx, frozen);
                [out, dx, dgamma].concat()
            });
            let loss = |x: &[f64], g: &[f64]| inner(&reference(x, g), &dy);
            let dx = gradient(&x, |x| loss(x, &gd));
            let dgamma = gradient(&gamma, |g| loss(&xd, g));
            let dgamma: Vec<f64> = dgamma.iter().map(|g| 1.0 + g).collect();
            let want = [reference(&xd, &gd), dx, dgamma].concat();
            assert_close(&got, &want, 1e-5);
        }
    }

    #[test]
    fn the_gradient_of_gamma_is_summed_over_several_blocks() {
        let (rows, cols) = (1500, 33);
        let (x, dy) = (random(1, rows * cols), random(2, rows * cols));
        let gamma = random(3, cols);
        let got = repeatable(|| {
            let (mut out, mut stats) = (vec![0.0; rows * cols], vec![0.0; rows]);
            let norm = RmsNorm {
                gamma: &gamma,
                eps: EPS,
            };
            rms_norm(&mut out, &mut stats, &x, norm);
            let saved = Normalised {
                x: &x,
                stats: &stats,
            };
            let mut dgamma = vec![0.0; cols];
            rms_norm_backward(&mut out, Some(&mut dgamma), &dy, saved, &gamma);
            dgamma
        });
        let normalised = reference(&wide(&x), &vec![1.0; cols]);
        let mut want = vec![0.0; cols];
        for (n, dy) in normalised.chunks(cols).zip(dy.chunks(cols)) {
            for ((want, n), &dy) in want.iter_mut().zip(n).zip(dy) {
                *want += n * f64::from(dy);
            }
        }
        assert_close(&got, &want, 2e-5);
    }

    #[test]
    fn the_fused_residual_equals_the_steps_one_by_one() {
        let (rows, cols) = (193, 131);
        let (x, residual) = (random(1, rows * cols), random(2, rows * cols));
        let gamma = random(3, cols);
        let norm = RmsNorm {
            gamma: &gamma,
            eps: EPS,
        };
        for mask in [None, Some(Dropout { p: 0.4, key: 11 })] {
            let mut sum = x.clone();
            if let Some(mask) = mask {
                dropout_in_place(&mut sum, mask);
            }
            sum.iter_mut().zip(&residual).for_each(|(s, r)| *s += r);
            let (mut want, mut want_stats) = (vec![0.0; rows * cols], vec![0.0; rows]);
            rms_norm(&mut want, &mut want_stats, &sum, norm);

            let got = repeatable(|| {
                let (mut out, mut stats) = (vec![0.0; rows * cols], vec![0.0; rows]);
                let mut x = x.clone();
                let residual = Residual {
                    values: &residual,
                    dropout: mask,
                };
                add_rms_norm(&mut out, &mut stats, &mut x, residual, norm);
                [x, stats, out].concat()
            });
            assert_close(&got, &wide(&[sum, want_stats, want].concat()), 2e-6);
        }
    }

    #[test]
    #[should_panic(expected = "length of the statistics")]
    fn refuses_statistics_of_another_length() {
        let norm = RmsNorm {
            gamma: &[1.0; 2],
            eps: EPS,
        };
        rms_norm(&mut [0.0; 4], &mut [0.0; 4], &[0.0; 4], norm);
    }
}
