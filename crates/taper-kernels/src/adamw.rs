//! AdamW in one pass over parameter, gradient and moments, and the norm for clipping.

use rayon::prelude::*;

use crate::parallel::piece_len;
use crate::simd;

/// The constants of the optimizer.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
}

/// One parameter with its gradient and its two moments, all of one length.
#[derive(Debug)]
pub struct Parameter<'a> {
    pub value: &'a mut [f32],
    pub gradient: &'a [f32],
    pub m: &'a mut [f32],
    pub v: &'a mut [f32],
}

/// What changes from one update to the next.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    pub learning_rate: f64,
    pub weight_decay: f64,
    /// The number of this update, from 1 on.
    pub step: u64,
    /// Multiplies the gradient first: the mean over a batch and clipping in one factor.
    pub gradient_scale: f64,
}

impl AdamW {
    /// Updates value and moments in the order of PyTorch: decay, moments, step.
    pub fn update(&self, parameter: Parameter<'_>, update: Update) {
        let Parameter {
            value,
            gradient,
            m,
            v,
        } = parameter;
        assert!(update.step > 0, "updates are counted from 1");
        for len in [gradient.len(), m.len(), v.len()] {
            assert_eq!(
                len,
                value.len(),
                "lengths of a parameter, its gradient and its moments"
            );
        }
        let factors = self.factors(update);
        let piece = piece_len(value.len(), 1);
        (
            value.par_chunks_mut(piece),
            gradient.par_chunks(piece),
            m.par_chunks_mut(piece),
            v.par_chunks_mut(piece),
        )
            .into_par_iter()
            .for_each(|(value, gradient, m, v)| {
                simd::dispatch(
                    #[inline(always)]
                    || {
                        step(
                            Parameter {
                                value,
                                gradient,
                                m,
                                v,
                            },
                            factors,
                        )
                    },
                )
            });
    }

    fn factors(&self, update: Update) -> Factors {
        let corrected = |beta: f64| 1.0 - beta.powf(update.step as f64);
        Factors {
            gradient: update.gradient_scale as f32,
            keep: (1.0 - update.learning_rate * update.weight_decay) as f32,
            beta1: self.beta1 as f32,
            beta2: self.beta2 as f32,
            new1: (1.0 - self.beta1) as f32,
            new2: (1.0 - self.beta2) as f32,
            rate: (update.learning_rate / corrected(self.beta1)) as f32,
            root: (1.0 / corrected(self.beta2).sqrt()) as f32,
            eps: self.eps as f32,
        }
    }
}

/// The factors of one update, computed in `f64` as PyTorch does.
#[derive(Clone, Copy)]
struct Factors {
    gradient: f32,
    keep: f32,
    beta1: f32,
    beta2: f32,
    new1: f32,
    new2: f32,
    rate: f32,
    root: f32,
    eps: f32,
}

#[inline(always)]
fn step(parameter: Parameter<'_>, f: Factors) {
    let Parameter {
        value,
        gradient,
        m,
        v,
    } = parameter;
    for (((value, &gradient), m), v) in value.iter_mut().zip(gradient).zip(m).zip(v) {
        let g = gradient * f.gradient;
        *m = m.mul_add(f.beta1, f.new1 * g);
        *v = v.mul_add(f.beta2, f.new2 * g * g);
        let denominator = v.sqrt().mul_add(f.root, f.eps);
        *value = (*value * f.keep) - f.rate * *m / denominator;
    }
}

/// Returns the sum of the squares, in `f64`; NaN and infinities show in it.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    /// A constant, so that the order of the sum does not depend on the number of threads.
    const PIECE: usize = 64 * 1024;
    let partial: Vec<f64> = x
        .par_chunks(PIECE)
        .map(|x| {
            simd::dispatch(
                #[inline(always)]
                || squares(x),
            )
        })
        .collect();
    partial.into_iter().sum()
}

#[inline(always)]
fn squares(x: &[f32]) -> f64 {
    /// Measured: with 32 the compiler gives up on registers and is thirty times slower.
    const LANES: usize = 16;
    let mut partial = [0.0f64; LANES];
    let (blocks, tail) = x.as_chunks::<LANES>();
    for block in blocks {
        for (p, &x) in partial.iter_mut().zip(block) {
            *p = f64::from(x).mul_add(f64::from(x), *p);
        }
    }
    for (p, &x) in partial.iter_mut().zip(tail) {
        *p = f64::from(x).mul_add(f64::from(x), *p);
    }
    partial.into_iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, on_threads, random, repeatable, wide};

    const ADAMW: AdamW = AdamW {
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
    };

    fn update(step: u64) -> Update {
        Update {
            learning_rate: 0.01,
            weight_decay: 0.1,
            step,
            gradient_scale: 0.5,
        }
    }

    /// PyTorch's AdamW, line by line, in `f64`.
    fn reference(value: &mut [f64], state: &mut [(f64, f64)], gradient: &[f32], u: Update) {
        for ((p, (m, v)), &g) in value.iter_mut().zip(state).zip(gradient) {
            let g = f64::from(g) * u.gradient_scale;
            *p -= u.learning_rate * u.weight_decay * *p;
            *m = ADAMW.beta1 * *m + (1.0 - ADAMW.beta1) * g;
            *v = ADAMW.beta2 * *v + (1.0 - ADAMW.beta2) * g * g;
            let m_hat = *m / (1.0 - ADAMW.beta1.powf(u.step as f64));
            let v_hat = *v / (1.0 - ADAMW.beta2.powf(u.step as f64));
            *p -= u.learning_rate * m_hat / (v_hat.sqrt() + ADAMW.eps);
        }
    }

    #[test]
    fn many_updates_agree_with_pytorch_in_double_precision() {
        for len in [1, 37, 40_003] {
            let start = random(1, len);
            let got = repeatable(|| {
                let (mut value, mut m, mut v) = (start.clone(), vec![0.0; len], vec![0.0; len]);
                for step in 1..=20 {
                    let gradient = &random(step + 1, len);
                    let (value, m, v) = (&mut value[..], &mut m[..], &mut v[..]);
                    ADAMW.update(
                        Parameter {
                            value,
                            gradient,
                            m,
                            v,
                        },
                        update(step),
                    );
                }
                value
            });
            let (mut want, mut state) = (wide(&start), vec![(0.0, 0.0); len]);
            for step in 1..=20 {
                reference(&mut want, &mut state, &random(step + 1, len), update(step));
            }
            assert_close(&got, &want, 1e-6);
        }
    }

    #[test]
    fn the_first_step_has_the_size_of_the_learning_rate() {
        let (mut value, mut m, mut v) = ([0.0; 3], [0.0; 3], [0.0; 3]);
        let gradient = &[1e-3, -5.0, 0.0];
        let parameter = Parameter {
            value: &mut value,
            gradient,
            m: &mut m,
            v: &mut v,
        };
        ADAMW.update(parameter, update(1));
        assert_close(&value, &[-0.01, 0.01, 0.0], 1e-6);
    }

    #[test]
    fn squares_are_summed_in_double_precision_on_any_threads() {
        let x: Vec<f32> = random(4, 200_001).iter().map(|x| 1000.0 * x).collect();
        let want: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum();
        let sums = [1, 2].map(|threads| on_threads(threads, || sum_of_squares(&x)));
        assert_eq!(sums[0].to_bits(), sums[1].to_bits());
        assert!((sums[0] / want - 1.0).abs() < 1e-12);
        assert_eq!(sum_of_squares(&[]), 0.0);
        assert_eq!(sum_of_squares(&[f32::MAX]), f64::from(f32::MAX).powi(2));
        assert!(sum_of_squares(&[1.0, f32::NAN]).is_nan());
        assert_eq!(sum_of_squares(&[f32::NEG_INFINITY]), f64::INFINITY);
    }

    #[test]
    #[should_panic(expected = "counted from 1")]
    fn refuses_a_step_of_zero() {
        let parameter = Parameter {
            value: &mut [],
            gradient: &[],
            m: &mut [],
            v: &mut [],
        };
        ADAMW.update(parameter, update(0));
    }
}
