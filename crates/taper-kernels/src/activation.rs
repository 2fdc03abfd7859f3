//! GELU (exact, by the error function) and tanh, forward and backward.

use rayon::prelude::*;

use crate::math;
use crate::parallel::piece_len;
use crate::simd;

/// Computes `out = x Φ(x)`; absolute error at most `2e-7 max(1, |x|)`.
pub fn gelu(out: &mut [f32], x: &[f32]) {
    map(
        out,
        x,
        #[inline(always)]
        |x| x * math::normal_cdf(x),
    );
}

/// Computes `dx = dy (Φ(x) + x φ(x))` from the input of [`gelu`].
pub fn gelu_backward(dx: &mut [f32], dy: &[f32], x: &[f32]) {
    map2(
        dx,
        dy,
        x,
        #[inline(always)]
        |dy, x| dy * x.mul_add(math::normal_density(x), math::normal_cdf(x)),
    );
}

/// Computes `out = tanh(x)`; absolute error at most 2e-7.
pub fn tanh(out: &mut [f32], x: &[f32]) {
    map(out, x, math::tanh);
}

/// Computes `dx = dy (1 - y²)` from the output of [`tanh`].
pub fn tanh_backward(dx: &mut [f32], dy: &[f32], y: &[f32]) {
    map2(
        dx,
        dy,
        y,
        #[inline(always)]
        |dy, y| dy * y.mul_add(-y, 1.0),
    );
}

/// Computes `out[i] = f(x[i])`; `f` must be inlined.
#[inline(always)]
fn map(out: &mut [f32], x: &[f32], f: impl Fn(f32) -> f32 + Sync) {
    assert_eq!(out.len(), x.len(), "lengths of an activation");
    let piece = piece_len(x.len(), 1);
    let pieces = out.par_chunks_mut(piece).zip(x.par_chunks(piece));
    pieces.for_each(|(out, x)| {
        simd::dispatch(
            #[inline(always)]
            || {
                for (out, &x) in out.iter_mut().zip(x) {
                    *out = f(x);
                }
            },
        )
    });
}

/// Computes `out[i] = f(a[i], b[i])`; `f` must be inlined.
#[inline(always)]
fn map2(out: &mut [f32], a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32 + Sync) {
    assert_eq!(
        out.len(),
        a.len(),
        "lengths of the gradient of an activation"
    );
    assert_eq!(
        out.len(),
        b.len(),
        "lengths of the gradient of an activation"
    );
    let piece = piece_len(out.len(), 1);
    (
        out.par_chunks_mut(piece),
        a.par_chunks(piece),
        b.par_chunks(piece),
    )
        .into_par_iter()
        .for_each(|(out, a, b)| {
            simd::dispatch(
                #[inline(always)]
                || {
                    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
                        *out = f(a, b);
                    }
                },
            )
        });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, gradient, inner, random, repeatable, wide};

    /// Φ by Simpson's rule from 0, independent of the approximations under test.
    fn cdf(x: f64) -> f64 {
        const STEPS: u32 = 2000;
        let h = x / f64::from(STEPS);
        let density = |i: u32| (-0.5 * (f64::from(i) * h).powi(2)).exp();
        let sum: f64 = (0..=STEPS)
            .map(|i| match i {
                0 | STEPS => density(i),
                _ if i % 2 == 1 => 4.0 * density(i),
                _ => 2.0 * density(i),
            })
            .sum();
        0.5 + sum * h / 3.0 / (2.0 * std::f64::consts::PI).sqrt()
    }

    fn inputs(len: usize) -> Vec<f32> {
        random(1, len).iter().map(|x| 5.0 * x).collect()
    }

    #[test]
    fn gelu_agrees_with_the_definition_and_its_differences() {
        for len in [1, 16, 333] {
            let (x, dy) = (inputs(len), random(2, len));
            let mut out = vec![f32::NAN; len];
            gelu(&mut out, &x);
            let gelu_wide = |x: &f64| x * cdf(*x);
            let want: Vec<f64> = wide(&x).iter().map(gelu_wide).collect();
            assert_close(&out, &want, 3e-7);

            let mut dx = vec![f32::NAN; len];
            gelu_backward(&mut dx, &dy, &x);
            let loss = |x: &[f64]| inner(&x.iter().map(gelu_wide).collect::<Vec<_>>(), &dy);
            assert_close(&dx, &gradient(&x, loss), 1e-6);
        }
    }

    #[test]
    fn tanh_agrees_with_the_definition_and_its_differences() {
        for len in [1, 16, 333] {
            let (x, dy) = (inputs(len), random(2, len));
            let mut y = vec![f32::NAN; len];
            tanh(&mut y, &x);
            let want: Vec<f64> = wide(&x).iter().map(|x| x.tanh()).collect();
            assert_close(&y, &want, 2e-7);

            let mut dx = vec![f32::NAN; len];
            tanh_backward(&mut dx, &dy, &y);
            let loss = |x: &[f64]| inner(&x.iter().map(|x| x.tanh()).collect::<Vec<_>>(), &dy);
            assert_close(&dx, &gradient(&x, loss), 1e-6);
        }
    }

    #[test]
    fn large_inputs_saturate_and_nan_passes() {
        let x = [-1e4, -40.0, 40.0, 1e4, f32::NAN];
        let mut y = [0.0; 5];
        gelu(&mut y, &x);
        assert_eq!(y[..4], [0.0, 0.0, 40.0, 1e4]);
        assert!(y[4].is_nan());
        let mut dx = [0.0; 5];
        gelu_backward(&mut dx, &[1.0; 5], &x);
        assert_eq!(dx[..4], [0.0, 0.0, 1.0, 1.0]);
        assert!(dx[4].is_nan());
    }

    #[test]
    fn the_cut_into_pieces_changes_nothing() {
        let x = inputs(100_001);
        let got = repeatable(|| {
            let mut out = vec![f32::NAN; x.len()];
            gelu(&mut out, &x);
            out
        });
        let one_by_one: Vec<f32> = x.iter().map(|&x| x * math::normal_cdf(x)).collect();
        assert_eq!(got, one_by_one);
    }
}
