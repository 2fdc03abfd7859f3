//! GELU (exact and by tanh), SiLU, ReLU and tanh, forward and backward.

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

/// Computes `out = x/2 (1 + tanh u)` with `u = √(2/π) (x + 0.044715 x³)`, the GELU of GPT-2; absolute
/// error at most `2e-7 max(1, |x|)`.
pub fn gelu_tanh(out: &mut [f32], x: &[f32]) {
    map(
        out,
        x,
        #[inline(always)]
        |x| x * math::sigmoid(twice_u(x)),
    );
}

/// Computes the gradient of the input of [`gelu_tanh`] from that input.
pub fn gelu_tanh_backward(dx: &mut [f32], dy: &[f32], x: &[f32]) {
    map2(
        dx,
        dy,
        x,
        #[inline(always)]
        |dy, x| {
            // By the exponential of a negative number: `1 - σ(2u)` would lose its digits.
            let u = twice_u(x);
            let e = math::exp(-u.abs());
            let r = 1.0 / (1.0 + e);
            let gate = if x < 0.0 { e * r } else { r };
            let slope = TWICE_ROOT_2_OVER_PI * (3.0 * CUBIC * x).mul_add(x, 1.0);
            dy * (x * slope * r).mul_add(e * r, gate)
        },
    );
}

const TWICE_ROOT_2_OVER_PI: f32 = 1.595_769_2;
const CUBIC: f32 = 0.044_715;

/// `2u`, by which `(1 + tanh u) / 2` is `σ(2u)`.
#[inline(always)]
fn twice_u(x: f32) -> f32 {
    TWICE_ROOT_2_OVER_PI * x * (CUBIC * x).mul_add(x, 1.0)
}

/// Computes `out = x σ(x)`; absolute error at most `2e-7 max(1, |x|)`.
pub fn silu(out: &mut [f32], x: &[f32]) {
    map(
        out,
        x,
        #[inline(always)]
        |x| x * math::sigmoid(x),
    );
}

/// Computes `dx = dy σ(x) (1 + x (1 - σ(x)))` from the input of [`silu`].
pub fn silu_backward(dx: &mut [f32], dy: &[f32], x: &[f32]) {
    map2(
        dx,
        dy,
        x,
        #[inline(always)]
        |dy, x| dy * silu_slope(x, math::sigmoid(x)),
    );
}

/// The derivative of `x σ(x)`, given `σ(x)`.
#[inline(always)]
pub(crate) fn silu_slope(x: f32, sigmoid: f32) -> f32 {
    (x * (1.0 - sigmoid)).mul_add(sigmoid, sigmoid)
}

/// Computes `out = max(x, 0)`.
pub fn relu(out: &mut [f32], x: &[f32]) {
    map(
        out,
        x,
        #[inline(always)]
        |x| if x < 0.0 { 0.0 } else { x },
    );
}

/// Computes `dx = dy` where `x` is positive and zero elsewhere, from the input of [`relu`].
pub fn relu_backward(dx: &mut [f32], dy: &[f32], x: &[f32]) {
    map2(
        dx,
        dy,
        x,
        #[inline(always)]
        |dy, x| if x <= 0.0 { 0.0 } else { dy },
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

    type Forward = fn(&mut [f32], &[f32]);
    type Backward = fn(&mut [f32], &[f32], &[f32]);

    /// Compares an activation, whose backward takes its input, with its definition.
    fn check(forward: Forward, backward: Backward, definition: impl Fn(f64) -> f64) {
        for len in [1, 16, 333] {
            let (x, dy) = (inputs(len), random(2, len));
            let reference = |x: &[f64]| x.iter().map(|&x| definition(x)).collect::<Vec<_>>();
            let mut out = vec![f32::NAN; len];
            forward(&mut out, &x);
            assert_close(&out, &reference(&wide(&x)), 3e-7);

            let mut dx = vec![f32::NAN; len];
            backward(&mut dx, &dy, &x);
            let want = gradient(&x, |x| inner(&reference(x), &dy));
            assert_close(&dx, &want, 1e-6);
        }
    }

    #[test]
    fn activations_agree_with_their_definitions_and_differences() {
        check(gelu, gelu_backward, |x| x * cdf(x));
        check(gelu_tanh, gelu_tanh_backward, |x| {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            0.5 * x * (1.0 + u.tanh())
        });
        check(silu, silu_backward, |x| x / (1.0 + (-x).exp()));
        check(relu, relu_backward, |x| x.max(0.0));
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
        let activations: [(Forward, Backward); 4] = [
            (gelu, gelu_backward),
            (gelu_tanh, gelu_tanh_backward),
            (silu, silu_backward),
            (relu, relu_backward),
        ];
        let x = [-1e4, -200.0, 200.0, 1e4, f32::NAN];
        for (forward, backward) in activations {
            let mut y = [0.5; 5];
            forward(&mut y, &x);
            assert_eq!(y[..4], [0.0, 0.0, 200.0, 1e4]);
            assert!(y[4].is_nan());
            let mut dx = [0.5; 5];
            backward(&mut dx, &[1.0; 5], &x);
            assert_eq!(dx[..4], [0.0, 0.0, 1.0, 1.0]);
        }
    }

    #[test]
    fn gradients_pass_nan() {
        for backward in [gelu_backward, gelu_tanh_backward, silu_backward] {
            let mut dx = [0.0];
            backward(&mut dx, &[1.0], &[f32::NAN]);
            assert!(dx[0].is_nan());
        }
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
