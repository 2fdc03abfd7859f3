//! Elementary functions without branches, so that loops over them are vectorised.
//!
//! Each is inlined into its caller and takes the caller's instruction set. Selections replace
//! branches and are written so that NaN passes through (`if x < limit { limit } else { x }`).
//! The tests compare with `f64` on a dense grid and at the extremes.

const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 in two parts; the first has few digits, so that multiples of it are exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;
/// Adding 1.5·2²³ rounds to an integer and leaves it in the low bits.
const ROUND: f32 = 12_582_912.0;

/// `e^x`; relative error at most 2e-7, denormal results included (absolutely), infinity above 88.7.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let x = if x < -105.0 { -105.0 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    let rounded = x.mul_add(LOG2_E, ROUND);
    let power = rounded - ROUND;
    let r = power.mul_add(-LN_2_LOW, power.mul_add(-LN_2_HIGH, x));
    // e^r = 1 + r + r² p(r) on |r| <= ln 2 / 2.
    let mut p = 1.987_569_1e-4_f32;
    p = p.mul_add(r, 1.398_199_9e-3);
    p = p.mul_add(r, 8.333_452e-3);
    p = p.mul_add(r, 4.166_579_6e-2);
    p = p.mul_add(r, 1.666_666_6e-1);
    p = p.mul_add(r, 0.5);
    let e = (r * r).mul_add(p, r) + 1.0;
    // In two factors, since 2^128 and 2^-140 are no normal numbers.
    let power = rounded.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let half = power >> 1;
    e * power_of_two(half) * power_of_two(power.wrapping_sub(half))
}

#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// The logistic function, `1 / (1 + e^-x)`; absolute error at most 1e-7.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The hyperbolic tangent; absolute error at most 2e-7.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let size = x.abs();
    let square = x * x;
    let mut p = -5.704_988_7e-3f32;
    p = p.mul_add(square, 2.063_909e-2);
    p = p.mul_add(square, -5.373_971_5e-2);
    p = p.mul_add(square, 1.333_144_2e-1);
    p = p.mul_add(square, -3.333_328e-1);
    let near = (p * square).mul_add(x, x);
    let far = (1.0 - 2.0 / (exp(2.0 * size) + 1.0)).copysign(x);
    if size > 0.625 { far } else { near }
}

/// The distribution function of the normal distribution, `Φ(x)`; absolute error at most 1e-7.
#[inline(always)]
pub(crate) fn normal_cdf(x: f32) -> f32 {
    let t = x * std::f32::consts::FRAC_1_SQRT_2;
    let size = t.abs();
    let tail = 0.5 * exp(log_erfc(if size > 10.0 { 10.0 } else { size }));
    let far = if x < 0.0 { tail } else { 1.0 - tail };
    let near = 0.5f32.mul_add(erf_near_zero(t), 0.5);
    if size > NEAR { far } else { near }
}

/// The density of the normal distribution, `φ(x)`; absolute error at most 1e-7.
#[inline(always)]
pub(crate) fn normal_density(x: f32) -> f32 {
    const FRAC_1_SQRT_2_PI: f32 = 0.398_942_3;
    FRAC_1_SQRT_2_PI * exp(-0.5 * x * x)
}

/// Where the two approximations of the error function meet.
const NEAR: f32 = 475.0 / 512.0;

/// `ln erfc(t)` for `t >= NEAR`.
#[inline(always)]
fn log_erfc(t: f32) -> f32 {
    let square = t * t;
    let high = t.mul_add(-1.728_534_7e-5, 3.831_971_3e-4);
    let low = t.mul_add(-3.883_964_4e-3, 2.425_462_2e-2);
    let mut p = high.mul_add(square, low);
    p = p.mul_add(t, -1.067_778_8e-1);
    p = p.mul_add(t, -6.348_468_7e-1);
    p = p.mul_add(t, -1.287_175_1e-1);
    p.mul_add(t, -t)
}

/// `erf(t)` for `|t| <= NEAR`.
#[inline(always)]
fn erf_near_zero(t: f32) -> f32 {
    let square = t * t;
    let mut p = -5.967_617e-4f32;
    p = p.mul_add(square, 4.991_194_2e-3);
    p = p.mul_add(square, -2.676_813_5e-2);
    p = p.mul_add(square, 1.128_199_2e-1);
    p = p.mul_add(square, -3.761_253_4e-1);
    p = p.mul_add(square, 1.283_791_7e-1);
    p.mul_add(t, t)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd;

    /// Runs `f` over a grid in the chosen instruction set; returns the largest absolute error.
    fn worst(range: f64, f: impl Fn(f32) -> f32, reference: impl Fn(f64) -> f64) -> f64 {
        let n = 400_000;
        let grid: Vec<f32> = (-n..=n)
            .map(|i| (f64::from(i) / f64::from(n) * range) as f32)
            .collect();
        let mut out = vec![0.0; grid.len()];
        simd::dispatch(
            #[inline(always)]
            || out.iter_mut().zip(&grid).for_each(|(y, &x)| *y = f(x)),
        );
        let errors = out.iter().zip(&grid);
        errors
            .map(|(&y, &x)| (f64::from(y) - reference(f64::from(x))).abs())
            .fold(0.0, f64::max)
    }

    /// By its series, summed until nothing changes, and by its continued fraction beyond 3.
    fn erfc(x: f64) -> f64 {
        if x < 0.0 {
            return 2.0 - erfc(-x);
        }
        if x < 3.0 {
            let (mut term, mut sum) = (x, x);
            for n in 1..200 {
                term *= -x * x / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            return 1.0 - sum * 2.0 / std::f64::consts::PI.sqrt();
        }
        let fraction = (1..200)
            .rev()
            .fold(0.0, |f, n| f64::from(n) / 2.0 / (x + f));
        (-x * x).exp() / std::f64::consts::PI.sqrt() / (x + fraction)
    }

    #[test]
    fn exp_is_exact_to_two_units_in_the_last_place() {
        let relative = |range| {
            worst(
                range,
                |x| (f64::from(exp(x)) / f64::from(x).exp()) as f32,
                |_| 1.0,
            )
        };
        assert!(relative(1.0) <= 2e-7, "{}", relative(1.0));
        assert!(relative(87.0) <= 2e-7, "{}", relative(87.0));
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(89.0), f32::INFINITY);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(f32::MAX), f32::INFINITY);
        assert_eq!(exp(-106.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!((f64::from(exp(88.72)) / 88.72f32.exp() as f64 - 1.0).abs() < 2e-7);
        assert!((exp(-100.0) - (-100.0f32).exp()).abs() <= f32::from_bits(2));
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn tanh_stays_within_its_error() {
        for range in [1e-3, 1.0, 10.0, 1e4] {
            let error = worst(range, tanh, f64::tanh);
            assert!(error <= 2e-7, "{range}: {error}");
        }
        assert_eq!(tanh(f32::INFINITY), 1.0);
        assert_eq!(tanh(f32::NEG_INFINITY), -1.0);
        assert_eq!(tanh(0.0), 0.0);
        assert!(tanh(f32::NAN).is_nan());
    }

    #[test]
    fn sigmoid_stays_within_its_error() {
        for range in [1e-3, 1.0, 10.0, 1e4] {
            let error = worst(range, sigmoid, |x| 1.0 / (1.0 + (-x).exp()));
            assert!(error <= 1e-7, "{range}: {error}");
        }
        assert_eq!(sigmoid(f32::INFINITY), 1.0);
        assert_eq!(sigmoid(f32::NEG_INFINITY), 0.0);
        assert!(sigmoid(f32::NAN).is_nan());
    }

    #[test]
    fn the_normal_distribution_stays_within_its_error() {
        let cdf = |x: f64| 0.5 * erfc(-x * std::f64::consts::FRAC_1_SQRT_2);
        let density = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
        for range in [1e-3, 1.0, 6.0, 40.0, 1e4] {
            let error = worst(range, normal_cdf, cdf);
            assert!(error <= 1e-7, "cdf {range}: {error}");
            let error = worst(range, normal_density, density);
            assert!(error <= 1e-7, "density {range}: {error}");
        }
        for (x, want) in [(f32::INFINITY, 1.0), (f32::NEG_INFINITY, 0.0), (0.0, 0.5)] {
            assert_eq!(normal_cdf(x), want);
        }
        assert!(normal_cdf(f32::NAN).is_nan() && normal_density(f32::NAN).is_nan());
        assert_eq!(normal_density(f32::INFINITY), 0.0);
    }
}
