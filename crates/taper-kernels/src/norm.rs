//! Layer normalisation, alone and fused with the residual addition in front of it.

use crate::dropout::Dropout;
use crate::rows::Rows;
use crate::simd;

/// Rows whose gradients of gamma and beta are summed together. A constant, so that the order of
/// the sums does not depend on the number of threads.
const BLOCK_ROWS: usize = 32;

/// The parameters of a layer normalisation over rows of `gamma.len()` elements.
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm<'a> {
    pub gamma: &'a [f32],
    pub beta: &'a [f32],
    /// Added to the variance.
    pub eps: f32,
}

/// What is added to the input of a normalisation.
#[derive(Clone, Copy, Debug)]
pub struct Residual<'a> {
    pub values: &'a [f32],
    /// Dropout of the branch (not of these values) before the addition.
    pub dropout: Option<Dropout>,
}

/// What backward needs: the input of the normalisation and the statistics that forward wrote, which
/// are the mean and the reciprocal standard deviation of each row, or the reciprocal root mean
/// square alone after [`rms_norm`](crate::rms_norm()).
#[derive(Clone, Copy, Debug)]
pub struct Normalised<'a> {
    pub x: &'a [f32],
    pub stats: &'a [f32],
}

/// Normalises the rows of `x`; writes the mean and the reciprocal standard deviation of each row
/// to `stats` (two values a row).
pub fn layer_norm(out: &mut [f32], stats: &mut [f32], x: &[f32], norm: LayerNorm<'_>) {
    norm.rows().normalise(
        out,
        stats,
        x,
        #[inline(always)]
        |out, stats, x| normalise(out, stats, x, norm),
    );
}

/// Computes `x = dropout(x) + residual` and `out = layer_norm(x)` in one pass.
///
/// The sum takes the place of `x`, the output of the branch, which nothing needs any more: backward
/// of the normalisation reads the sum.
pub fn add_layer_norm(
    out: &mut [f32],
    stats: &mut [f32],
    x: &mut [f32],
    residual: Residual<'_>,
    norm: LayerNorm<'_>,
) {
    norm.rows().add_and_normalise(
        out,
        stats,
        x,
        residual,
        #[inline(always)]
        |out, stats, x| normalise(out, stats, x, norm),
    );
}

/// Computes the gradient of the input of a normalisation.
///
/// `parameters` are the gradients of gamma and beta, which are added to; `None` where frozen. After
/// [`add_layer_norm`], `dx` is the gradient of the residual; that of the branch is
/// [`dropout`](crate::dropout()) of it.
pub fn layer_norm_backward(
    dx: &mut [f32],
    parameters: Option<(&mut [f32], &mut [f32])>,
    dy: &[f32],
    saved: Normalised<'_>,
    gamma: &[f32],
) {
    let (cols, wanted) = (gamma.len(), parameters.is_some());
    let partial = Rows { cols, stats: 2 }.backward(
        dx,
        dy,
        saved,
        [BLOCK_ROWS, 2 * cols],
        #[inline(always)]
        |dx, partial, dy, saved| {
            backward_rows(dx, dy, saved, gamma);
            if wanted {
                parameter_sums(partial, dy, saved);
            }
        },
    );
    if let Some((dgamma, dbeta)) = parameters {
        assert_eq!(dgamma.len(), cols, "length of dgamma");
        assert_eq!(dbeta.len(), cols, "length of dbeta");
        for block in partial.chunks_exact(2 * cols) {
            simd::add(dgamma, &block[..cols]);
            simd::add(dbeta, &block[cols..]);
        }
    }
}

impl LayerNorm<'_> {
    fn rows(&self) -> Rows {
        let cols = self.gamma.len();
        assert_eq!(self.beta.len(), cols, "lengths of gamma and beta");
        Rows { cols, stats: 2 }
    }
}

#[inline(always)]
fn normalise(out: &mut [f32], stats: &mut [f32], x: &[f32], norm: LayerNorm<'_>) {
    let cols = norm.gamma.len();
    let scale = 1.0 / cols as f32;
    let (stats, _) = stats.as_chunks_mut::<2>();
    let rows = out.chunks_exact_mut(cols).zip(x.chunks_exact(cols));
    for ((out, x), stats) in rows.zip(stats) {
        let mean = simd::sum(x, |x| x) * scale;
        // The second pass over a row in cache keeps the variance exact where the mean is large.
        let variance = simd::sum(x, |x| (x - mean) * (x - mean)) * scale;
        let rstd = 1.0 / (variance + norm.eps).sqrt();
        *stats = [mean, rstd];
        for (((out, &x), &gamma), &beta) in out.iter_mut().zip(x).zip(norm.gamma).zip(norm.beta) {
            *out = ((x - mean) * rstd).mul_add(gamma, beta);
        }
    }
}

/// `dx = rstd (h - mean(h) - n mean(h n))` with `h = dy gamma` and `n` the normalised row.
#[inline(always)]
fn backward_rows(dx: &mut [f32], dy: &[f32], saved: Normalised<'_>, gamma: &[f32]) {
    let cols = gamma.len();
    let scale = 1.0 / cols as f32;
    let (stats, _) = saved.stats.as_chunks::<2>();
    let rows = dy.chunks_exact(cols).zip(saved.x.chunks_exact(cols));
    for ((dx, (dy, x)), &[mean, rstd]) in dx.chunks_exact_mut(cols).zip(rows).zip(stats) {
        for ((dx, &dy), &gamma) in dx.iter_mut().zip(dy).zip(gamma) {
            *dx = dy * gamma;
        }
        let mean_h = simd::sum(dx, |h| h) * scale;
        let mean_hn = simd::sum2(dx, x, |h, x| h * ((x - mean) * rstd)) * scale;
        for (dx, &x) in dx.iter_mut().zip(x) {
            let n = (x - mean) * rstd;
            *dx = rstd * (*dx - mean_h - n * mean_hn);
        }
    }
}

/// Adds `dy n` and `dy` of the rows to the two halves of `partial`.
#[inline(always)]
fn parameter_sums(partial: &mut [f32], dy: &[f32], saved: Normalised<'_>) {
    let cols = partial.len() / 2;
    let (dgamma, dbeta) = partial.split_at_mut(cols);
    let (stats, _) = saved.stats.as_chunks::<2>();
    let rows = dy.chunks_exact(cols).zip(saved.x.chunks_exact(cols));
    for ((dy, x), &[mean, rstd]) in rows.zip(stats) {
        for (((dgamma, dbeta), &dy), &x) in dgamma.iter_mut().zip(&mut *dbeta).zip(dy).zip(x) {
            *dgamma = ((x - mean) * rstd).mul_add(dy, *dgamma);
            *dbeta += dy;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dropout::{dropout, dropout_in_place};
    use crate::testing::{assert_close, gradient, inner, random, repeatable, wide};

    const EPS: f32 = 1e-5;
    const SHAPES: [(usize, usize); 4] = [(1, 1), (1, 5), (3, 67), (70, 16)];

    fn reference(x: &[f64], gamma: &[f64], beta: &[f64]) -> Vec<f64> {
        let cols = gamma.len();
        let row = |x: &[f64]| -> Vec<f64> {
            let mean = x.iter().sum::<f64>() / cols as f64;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / cols as f64;
            let rstd = 1.0 / (variance + f64::from(EPS)).sqrt();
            let parameters = gamma.iter().zip(beta);
            x.iter()
                .zip(parameters)
                .map(|(x, (g, b))| (x - mean) * rstd * g + b)
                .collect()
        };
        x.chunks(cols).flat_map(row).collect()
    }

    #[test]
    fn forward_agrees_with_the_definition() {
        for (rows, cols) in SHAPES {
            // A mean far from zero: the naive one-pass variance would lose its digits.
            let x: Vec<f32> = random(1, rows * cols).iter().map(|x| 50.0 + x).collect();
            let (gamma, beta) = (random(2, cols), random(3, cols));
            let norm = LayerNorm {
                gamma: &gamma,
                beta: &beta,
                eps: EPS,
            };
            let (mut out, mut stats) = (vec![f32::NAN; rows * cols], vec![f32::NAN; rows * 2]);
            layer_norm(&mut out, &mut stats, &x, norm);
            assert_close(
                &out,
                &reference(&wide(&x), &wide(&gamma), &wide(&beta)),
                3e-5,
            );
        }
    }

    #[test]
    fn backward_agrees_with_finite_differences() {
        for (rows, cols) in SHAPES {
            let (x, dy) = (random(1, rows * cols), random(4, rows * cols));
            let (mut gamma, beta) = (random(2, cols), random(3, cols));
            gamma[0] = 0.0;
            let (xd, gd, bd) = (wide(&x), wide(&gamma), wide(&beta));
            let got = repeatable(|| {
                let (mut out, mut stats) = (vec![0.0; rows * cols], vec![0.0; rows * 2]);
                let norm = LayerNorm {
                    gamma: &gamma,
                    beta: &beta,
                    eps: EPS,
                };
                layer_norm(&mut out, &mut stats, &x, norm);
                let mut dx = vec![f32::NAN; rows * cols];
                let (mut dgamma, mut dbeta) = (vec![1.0; cols], vec![1.0; cols]);
                let saved = Normalised {
                    x: &x,
                    stats: &stats,
                };
                let parameters = Some((&mut dgamma[..], &mut dbeta[..]));
                layer_norm_backward(&mut dx, parameters, &dy, saved, &gamma);
                let mut frozen = vec![f32::NAN; rows * cols];
                layer_norm_backward(&mut frozen, None, &dy, saved, &gamma);
                assert_eq!(dx, frozen);
                [dx, dgamma, dbeta].concat()
            });
            let loss = |x: &[f64], g: &[f64], b: &[f64]| inner(&reference(x, g, b), &dy);
            let dx = gradient(&x, |x| loss(x, &gd, &bd));
            let dgamma = gradient(&gamma, |g| loss(&xd, g, &bd));
            let dbeta = gradient(&beta, |b| loss(&xd, &gd, b));
            let accumulated = dgamma.iter().chain(&dbeta).map(|g| 1.0 + g);
            let want: Vec<f64> = dx.iter().copied().chain(accumulated).collect();
            assert_close(&got, &want, 1e-4);
        }
    }

    #[test]
    fn the_fused_residual_equals_the_steps_one_by_one() {
        let (rows, cols) = (93, 131);
        let (x, residual) = (random(1, rows * cols), random(2, rows * cols));
        let (gamma, beta) = (random(3, cols), random(4, cols));
        let norm = LayerNorm {
            gamma: &gamma,
            beta: &beta,
            eps: EPS,
        };
        for mask in [None, Some(Dropout { p: 0.4, key: 11 })] {
            let mut sum = x.clone();
            if let Some(mask) = mask {
                dropout_in_place(&mut sum, mask);
            }
            sum.iter_mut().zip(&residual).for_each(|(s, r)| *s += r);
            let (mut want, mut want_stats) = (vec![0.0; rows * cols], vec![0.0; rows * 2]);
            layer_norm(&mut want, &mut want_stats, &sum, norm);

            let got = repeatable(|| {
                let (mut out, mut stats) = (vec![0.0; rows * cols], vec![0.0; rows * 2]);
                let mut x = x.clone();
                let residual = Residual {
                    values: &residual,
                    dropout: mask,
                };
                add_layer_norm(&mut out, &mut stats, &mut x, residual, norm);
                [x, stats, out].concat()
            });
            assert_close(&got, &wide(&[sum, want_stats, want].concat()), 2e-6);
        }
    }

    #[test]
    fn dropout_of_the_gradient_uses_the_mask_of_forward() {
        let mask = Dropout { p: 0.5, key: 3 };
        let (mut forward, mut backward) = (vec![1.0; 5000], vec![0.0; 5000]);
        let (zeros, beta) = (vec![0.0; 5000], [0.0; 8]);
        let norm = LayerNorm {
            gamma: &[1.0; 8],
            beta: &beta,
            eps: EPS,
        };
        let residual = Residual {
            values: &zeros,
            dropout: Some(mask),
        };
        let (mut out, mut stats) = (vec![0.0; 5000], vec![0.0; 1250]);
        add_layer_norm(&mut out, &mut stats, &mut forward, residual, norm);
        dropout(&mut backward, &vec![1.0; 5000], mask);
        assert_eq!(forward, backward);
    }

    #[test]
    #[should_panic(expected = "length of the statistics")]
    fn refuses_statistics_of_another_length() {
        let norm = LayerNorm {
            gamma: &[1.0; 2],
            beta: &[0.0; 2],
            eps: EPS,
        };
        layer_norm(&mut [0.0; 4], &mut [0.0; 2], &[0.0; 4], norm);
    }
}
