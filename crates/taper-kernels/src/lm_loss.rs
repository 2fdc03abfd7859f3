//! Cross-entropy over a vocabulary, fused with the layer that computes the logits.
//!
//! The logits of a whole batch would be the largest tensor of training by far. They are computed
//! for `chunk` rows at a time, turned into their gradient where they lie, multiplied back, and
//! forgotten.

use rayon::prelude::*;

use crate::gemm::{View, matmul};
use crate::math;
use crate::numbers::Numbers;
use crate::simd;

/// How many tokens of the vocabulary are summed over in one go; a sum over the whole vocabulary in single precision
/// would lose digits.
const BLOCK: usize = 4096;

/// The loss of some rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LmLoss {
    /// The sum of `-ln softmax(logits)[target]`, not divided by the number of rows.
    pub sum: f64,
    /// Rows whose target has the largest logit (the first of equal ones).
    pub correct: u64,
}

/// The loss of one row, and whether its target has the largest logit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TargetLoss {
    pub loss: f32,
    pub correct: bool,
}

/// Gradients of the two operands of the logits.
#[derive(Debug)]
pub struct LmGradients<'a> {
    /// Overwritten, `[rows, hidden]`.
    pub dhidden: &'a mut [f32],
    /// Added to, `[vocabulary, hidden]`; `None` where frozen.
    pub dweight: Option<&'a mut [f32]>,
    /// What both gradients are multiplied by: one over the number of all rows of an update makes
    /// them those of the mean.
    pub scale: f32,
}

/// Returns the loss of `logits = hidden · weightᵀ` and computes its gradients.
///
/// `hidden` is `[targets.len(), hidden]`, `weight` is `[vocabulary, hidden]`. Rows without a target
/// are best left out: gather with [`embedding`](crate::embedding()), scatter with
/// [`embedding_backward`](crate::embedding_backward). At most `chunk` rows of logits are in memory.
pub fn linear_cross_entropy<'a>(
    gradients: LmGradients<'_>,
    hidden: &[f32],
    weight: impl Into<Numbers<'a>>,
    targets: &[u32],
    chunk: usize,
) -> LmLoss {
    let LmGradients {
        dhidden,
        mut dweight,
        scale,
    } = gradients;
    let weight = weight.into();
    assert_eq!(dhidden.len(), hidden.len(), "length of dhidden");
    if let Some(dweight) = &dweight {
        assert_eq!(dweight.len(), weight.len(), "length of dweight");
    }
    let Some(size) = Size::new(hidden, weight.len(), targets) else {
        return LmLoss::default();
    };
    let mut total = LmLoss::default();
    let weight = View::of(weight, size.vocabulary, size.hidden);
    size.for_each_chunk(chunk, hidden, weight, |first, hidden, logits| {
        let rows = logits.len() / size.vocabulary;
        let losses: Vec<(f64, bool)> = logits
            .par_chunks_exact_mut(size.vocabulary)
            .zip(&targets[first..])
            .map(|(logits, &target)| {
                simd::dispatch(
                    #[inline(always)]
                    || loss_and_gradient(logits, target as usize, scale),
                )
            })
            .collect();
        total.add(&losses);
        let dlogits = View::new(logits, rows, size.vocabulary);
        let range = first * size.hidden..(first + rows) * size.hidden;
        matmul(&mut dhidden[range], false, 1.0, dlogits, weight);
        if let Some(dweight) = &mut dweight {
            matmul(dweight, true, 1.0, dlogits.t(), hidden);
        }
    });
    total
}

/// Returns the loss as [`linear_cross_entropy`] does, without gradients; writes that of each row to
/// `each`.
pub fn linear_cross_entropy_forward<'a>(
    each: &mut [TargetLoss],
    hidden: &[f32],
    weight: impl Into<Numbers<'a>>,
    targets: &[u32],
    chunk: usize,
) -> LmLoss {
    assert_eq!(each.len(), targets.len(), "one loss a row");
    let weight = weight.into();
    let Some(size) = Size::new(hidden, weight.len(), targets) else {
        return LmLoss::default();
    };
    let mut total = LmLoss::default();
    let weight = View::of(weight, size.vocabulary, size.hidden);
    size.for_each_chunk(chunk, hidden, weight, |first, _, logits| {
        let results: Vec<(f64, bool)> = logits
            .par_chunks_exact_mut(size.vocabulary)
            .zip(&targets[first..])
            .map(|(logits, &target)| {
                simd::dispatch(
                    #[inline(always)]
                    || {
                        let outcome = Outcome::new(logits, target as usize);
                        outcome.with_total(exponentials(logits, outcome.max))
                    },
                )
            })
            .collect();
        total.add(&results);
        for (out, (loss, correct)) in each[first..].iter_mut().zip(results) {
            *out = TargetLoss {
                loss: loss as f32,
                correct,
            };
        }
    });
    total
}

/// The sizes of the logits and of their operands.
#[derive(Clone, Copy)]
struct Size {
    rows: usize,
    hidden: usize,
    vocabulary: usize,
}

impl Size {
    /// Checks lengths and targets; returns `None` where there are no rows.
    fn new(hidden: &[f32], weight: usize, targets: &[u32]) -> Option<Self> {
        let rows = targets.len();
        if rows == 0 {
            assert_eq!(hidden.len(), 0, "rows without targets");
            return None;
        }
        assert_eq!(hidden.len() % rows, 0, "one row for each target");
        let hidden = hidden.len() / rows;
        assert!(
            hidden > 0 && weight.is_multiple_of(hidden),
            "a weight with rows of {hidden}"
        );
        let vocabulary = weight / hidden;
        for (row, &target) in targets.iter().enumerate() {
            assert!(
                (target as usize) < vocabulary,
                "target {target} of row {row} of a vocabulary of {vocabulary}"
            );
        }
        Some(Self {
            rows,
            hidden,
            vocabulary,
        })
    }

    /// Calls `f` with the first row of each chunk, the rows themselves and their logits.
    fn for_each_chunk(
        self,
        chunk: usize,
        hidden: &[f32],
        weight: View<'_>,
        mut f: impl FnMut(usize, View<'_>, &mut [f32]),
    ) {
        assert!(chunk > 0, "a chunk has rows");
        let mut logits = vec![0.0; chunk.min(self.rows) * self.vocabulary];
        for first in (0..self.rows).step_by(chunk) {
            let rows = chunk.min(self.rows - first);
            let range = first * self.hidden..(first + rows) * self.hidden;
            let hidden = View::new(&hidden[range], rows, self.hidden);
            let logits = &mut logits[..rows * self.vocabulary];
            matmul(logits, false, 1.0, hidden, weight.t());
            f(first, hidden, logits);
        }
    }
}

impl LmLoss {
    /// Adds rows in their order.
    fn add(&mut self, rows: &[(f64, bool)]) {
        for &(loss, correct) in rows {
            self.sum += loss;
            self.correct += u64::from(correct);
        }
    }
}

/// What the logits of a row say before they are overwritten.
struct Outcome {
    max: f32,
    target: f32,
    correct: bool,
}

impl Outcome {
    #[inline(always)]
    fn new(logits: &[f32], target: usize) -> Self {
        let max = simd::max(logits);
        let value = logits[target];
        let correct = value == max && simd::max(&logits[..target]) < max;
        Self {
            max,
            target: value,
            correct,
        }
    }

    /// Returns the loss, and whether the prediction is correct, from the sum of the exponentials.
    #[inline(always)]
    fn with_total(&self, total: f64) -> (f64, bool) {
        let loss = total.ln() + f64::from(self.max) - f64::from(self.target);
        (loss, self.correct)
    }
}

/// Turns a row of logits into exponentials of what they lack to `max`; returns the sum of these.
#[inline(always)]
fn exponentials(logits: &mut [f32], max: f32) -> f64 {
    let mut total = 0.0;
    for block in logits.chunks_mut(BLOCK) {
        for logit in &mut *block {
            *logit = math::exp(*logit - max);
        }
        total += f64::from(simd::sum(block, |e| e));
    }
    total
}

/// Turns a row of logits into `scale` times the gradient of its loss, `softmax - onehot(target)`.
#[inline(always)]
fn loss_and_gradient(logits: &mut [f32], target: usize, scale: f32) -> (f64, bool) {
    let outcome = Outcome::new(logits, target);
    let total = exponentials(logits, outcome.max);
    let factor = (f64::from(scale) / total) as f32;
    for exponential in &mut *logits {
        *exponential *= factor;
    }
    logits[target] -= scale;
    outcome.with_total(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, gradient, random, repeatable, wide};

    /// `(rows, hidden, vocabulary, chunk)`: chunks of one row, with a remainder, larger than all.
    const SHAPES: [(usize, usize, usize, usize); 5] = [
        (1, 1, 1, 4),
        (3, 5, 7, 1),
        (7, 4, 33, 3),
        (5, 3, 20, 5),
        (6, 9, 17, 100),
    ];

    struct Case {
        hidden: Vec<f32>,
        weight: Vec<f32>,
        targets: Vec<u32>,
        chunk: usize,
    }

    impl Case {
        fn new((rows, hidden, vocabulary, chunk): (usize, usize, usize, usize)) -> Self {
            let doubled = |x: Vec<f32>| x.iter().map(|x| 2.0 * x).collect();
            Self {
                hidden: doubled(random(1, rows * hidden)),
                weight: doubled(random(2, vocabulary * hidden)),
                targets: (0..rows).map(|r| (r * 11 % vocabulary) as u32).collect(),
                chunk,
            }
        }

        fn backward(&self, dweight: Option<&mut [f32]>, scale: f32) -> (Vec<f32>, LmLoss) {
            let mut dhidden = vec![f32::NAN; self.hidden.len()];
            let gradients = LmGradients {
                dhidden: &mut dhidden,
                dweight,
                scale,
            };
            let Self {
                hidden,
                weight,
                targets,
                chunk,
            } = self;
            let loss = linear_cross_entropy(gradients, hidden, weight, targets, *chunk);
            (dhidden, loss)
        }
    }

    /// The losses of the rows, and how many are correct.
    fn reference(hidden: &[f64], weight: &[f64], targets: &[u32]) -> (Vec<f64>, u64) {
        let (size, mut correct) = (hidden.len() / targets.len(), 0);
        let losses = hidden
            .chunks(size)
            .zip(targets)
            .map(|(hidden, &target)| {
                let dot = |w: &[f64]| w.iter().zip(hidden).map(|(w, h)| w * h).sum::<f64>();
                let logits: Vec<f64> = weight.chunks(size).map(dot).collect();
                let best = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                correct +=
                    u64::from(logits.iter().position(|&l| l == best) == Some(target as usize));
                logits.iter().map(|l| l.exp()).sum::<f64>().ln() - logits[target as usize]
            })
            .collect();
        (losses, correct)
    }

    #[test]
    fn loss_and_gradients_agree_with_the_definition() {
        const SCALE: f32 = 0.25;
        for shape in SHAPES {
            let case = Case::new(shape);
            let (hd, wd) = (wide(&case.hidden), wide(&case.weight));
            let got = repeatable(|| {
                let mut dweight = vec![1.0; case.weight.len()];
                let (dhidden, loss) = case.backward(Some(&mut dweight), SCALE);
                let (frozen, same) = case.backward(None, SCALE);
                assert_eq!((&frozen, same), (&dhidden, loss));
                let (losses, correct) = reference(&hd, &wd, &case.targets);
                assert!((loss.sum - losses.iter().sum::<f64>()).abs() < 2e-6 * losses.len() as f64);
                assert_eq!(loss.correct, correct);
                [dhidden, dweight].concat()
            });
            let loss = |h: &[f64], w: &[f64]| {
                f64::from(SCALE) * reference(h, w, &case.targets).0.iter().sum::<f64>()
            };
            let mut want = gradient(&case.hidden, |h| loss(h, &wd));
            let dweight = gradient(&case.weight, |w| loss(&hd, w));
            want.extend(dweight.iter().map(|g| 1.0 + g));
            assert_close(&got, &want, 2e-6);
        }
    }

    #[test]
    fn forward_alone_gives_the_loss_of_each_row() {
        for shape in SHAPES {
            let case = Case::new(shape);
            let (want, correct) =
                reference(&wide(&case.hidden), &wide(&case.weight), &case.targets);
            let got = repeatable(|| {
                let mut each = vec![TargetLoss::default(); want.len()];
                let loss = linear_cross_entropy_forward(
                    &mut each,
                    &case.hidden,
                    &case.weight,
                    &case.targets,
                    case.chunk,
                );
                assert_eq!(loss.correct, correct);
                assert_eq!(loss, case.backward(None, 1.0).1);
                assert_eq!(
                    each.iter().filter(|row| row.correct).count() as u64,
                    correct
                );
                each.iter().map(|row| row.loss).collect::<Vec<_>>()
            });
            assert_close(&got, &want, 2e-6);
        }
    }

    #[test]
    fn a_large_vocabulary_is_summed_exactly_enough() {
        let case = Case::new((3, 2, 70_001, 2));
        let (want, _) = reference(&wide(&case.hidden), &wide(&case.weight), &case.targets);
        let (dhidden, loss) = case.backward(None, 1.0);
        let error = loss.sum - want.iter().sum::<f64>();
        assert!(error.abs() < 2e-6, "{error}");
        let weight = wide(&case.weight);
        let want = gradient(&case.hidden, |h| {
            reference(h, &weight, &case.targets).0.iter().sum()
        });
        assert_close(&dhidden, &want, 2e-6);
    }

    #[test]
    fn equal_logits_count_for_the_first_and_nan_is_not_hidden() {
        let run = |hidden: f32, targets: &[u32]| {
            let hidden = vec![hidden; targets.len()];
            let mut each = vec![TargetLoss::default(); targets.len()];
            linear_cross_entropy_forward(&mut each, &hidden, &[1.0; 4][..], targets, 2)
        };
        assert_eq!(run(1.0, &[0, 1, 3]).correct, 1);
        assert!(run(f32::NAN, &[0]).sum.is_nan());
        assert_eq!(run(1.0, &[]), LmLoss::default());
    }

    #[test]
    #[should_panic(expected = "target 2 of row 1 of a vocabulary of 2")]
    fn refuses_a_target_beyond_the_vocabulary() {
        linear_cross_entropy_forward(
            &mut [TargetLoss::default(); 2],
            &[0.0; 2],
            &[0.0; 2][..],
            &[1, 2],
            1,
        );
    }
}
