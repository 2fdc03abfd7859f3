//! Cross-entropy over few classes.

use rayon::prelude::*;

use crate::math;
use crate::simd;

/// Rows whose losses are summed together; a constant, so that the sum does not depend on threads.
const BLOCK_ROWS: usize = 64;

/// Returns the sum over the rows of `-ln softmax(logits)[target]`; writes its gradient,
/// `softmax(logits) - onehot(target)`, to `dlogits`.
///
/// `logits` and `dlogits` are `[targets.len(), classes]`. Sum and gradient are not divided by the
/// number of rows: who accumulates several batches knows the number, and scales the gradients once.
pub fn cross_entropy(dlogits: &mut [f32], logits: &[f32], classes: usize, targets: &[u32]) -> f64 {
    assert_eq!(
        logits.len(),
        targets.len() * classes,
        "length of the logits"
    );
    assert_eq!(
        dlogits.len(),
        logits.len(),
        "length of the gradient of the logits"
    );
    for (row, &target) in targets.iter().enumerate() {
        assert!(
            (target as usize) < classes,
            "target {target} of row {row} of {classes} classes"
        );
    }
    if targets.is_empty() {
        return 0.0;
    }
    let block = BLOCK_ROWS * classes;
    let losses: Vec<f64> = (
        dlogits.par_chunks_mut(block),
        logits.par_chunks(block),
        targets.par_chunks(BLOCK_ROWS),
    )
        .into_par_iter()
        .map(|(dlogits, logits, targets)| {
            simd::dispatch(
                #[inline(always)]
                || rows(dlogits, logits, classes, targets),
            )
        })
        .collect();
    losses.into_iter().sum()
}

#[inline(always)]
fn rows(dlogits: &mut [f32], logits: &[f32], classes: usize, targets: &[u32]) -> f64 {
    let mut loss = 0.0;
    let rows = dlogits
        .chunks_exact_mut(classes)
        .zip(logits.chunks_exact(classes));
    for ((gradient, logits), &target) in rows.zip(targets) {
        let max = simd::max(logits);
        for (e, &logit) in gradient.iter_mut().zip(logits) {
            *e = math::exp(logit - max);
        }
        let total = simd::sum(gradient, |e| e);
        for probability in &mut *gradient {
            *probability /= total;
        }
        gradient[target as usize] -= 1.0;
        loss += f64::from(total).ln() + f64::from(max) - f64::from(logits[target as usize]);
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, gradient, on_threads, random};

    fn reference(logits: &[f64], classes: usize, targets: &[u32]) -> f64 {
        let row = |(logits, &target): (&[f64], &u32)| {
            logits.iter().map(|l| l.exp()).sum::<f64>().ln() - logits[target as usize]
        };
        logits.chunks(classes).zip(targets).map(row).sum()
    }

    #[test]
    fn loss_and_gradient_agree_with_the_definition() {
        for (rows, classes) in [(1, 1), (1, 2), (5, 3), (67, 2), (9, 150)] {
            let logits: Vec<f32> = random(1, rows * classes).iter().map(|x| 4.0 * x).collect();
            let targets: Vec<u32> = (0..rows).map(|row| (row * 7 % classes) as u32).collect();
            let mut dlogits = vec![f32::NAN; rows * classes];
            let mut losses = [1, 2].map(|threads| {
                on_threads(threads, || {
                    cross_entropy(&mut dlogits, &logits, classes, &targets)
                })
            });
            assert_eq!(losses[0], losses[1]);
            let wide = crate::testing::wide(&logits);
            losses[0] -= reference(&wide, classes, &targets);
            assert!(losses[0].abs() < 1e-6 * rows as f64, "{}", losses[0]);
            let want = gradient(&logits, |l| reference(l, classes, &targets));
            assert_close(&dlogits, &want, 1e-6);
        }
    }

    #[test]
    fn large_logits_neither_overflow_nor_hide_nan() {
        let mut dlogits = [0.0; 4];
        let loss = cross_entropy(&mut dlogits, &[1e4, -1e4, -1e4, 1e4], 2, &[0, 0]);
        assert_eq!((loss, dlogits), (2e4, [0.0, 0.0, -1.0, 1.0]));
        assert!(cross_entropy(&mut [0.0; 2], &[f32::NAN, 0.0], 2, &[1]).is_nan());
        assert_eq!(cross_entropy(&mut [], &[], 2, &[]), 0.0);
    }

    #[test]
    #[should_panic(expected = "target 2 of row 1 of 2 classes")]
    fn refuses_a_target_beyond_the_classes() {
        cross_entropy(&mut [0.0; 4], &[0.0; 4], 2, &[1, 2]);
    }
}
