//! The gated unit of Llama-like models: `silu(gate) ∘ up`, forward and backward.

use rayon::prelude::*;

use crate::activation::silu_slope;
use crate::math::sigmoid;
use crate::parallel::piece_len;
use crate::simd;

/// Computes `out = silu(gate) up`, element by element.
pub fn silu_mul(out: &mut [f32], gate: &[f32], up: &[f32]) {
    check(out.len(), &[gate.len(), up.len()]);
    let piece = piece_len(out.len(), 1);
    (
        out.par_chunks_mut(piece),
        gate.par_chunks(piece),
        up.par_chunks(piece),
    )
        .into_par_iter()
        .for_each(|(out, gate, up)| {
            simd::dispatch(
                #[inline(always)]
                || {
                    for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
                        *out = gate * sigmoid(gate) * up;
                    }
                },
            )
        });
}

/// Computes the gradients of both inputs of [`silu_mul`] from these inputs; both are overwritten.
pub fn silu_mul_backward(
    dgate: &mut [f32],
    dup: &mut [f32],
    dout: &[f32],
    gate: &[f32],
    up: &[f32],
) {
    check(dgate.len(), &[dup.len(), dout.len(), gate.len(), up.len()]);
    let piece = piece_len(dgate.len(), 1);
    (
        dgate.par_chunks_mut(piece),
        dup.par_chunks_mut(piece),
        dout.par_chunks(piece),
        gate.par_chunks(piece),
        up.par_chunks(piece),
    )
        .into_par_iter()
        .for_each(|(dgate, dup, dout, gate, up)| {
            simd::dispatch(
                #[inline(always)]
                || {
                    let results = dgate.iter_mut().zip(dup);
                    for ((((dgate, dup), &dout), &gate), &up) in results.zip(dout).zip(gate).zip(up)
                    {
                        let sigmoid = sigmoid(gate);
                        *dgate = dout * up * silu_slope(gate, sigmoid);
                        *dup = dout * gate * sigmoid;
                    }
                },
            )
        });
}

fn check(len: usize, others: &[usize]) {
    for &other in others {
        assert_eq!(other, len, "lengths of a gated unit");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, gradient, inner, random, repeatable, wide};

    fn reference(gate: &[f64], up: &[f64]) -> Vec<f64> {
        let silu = gate.iter().map(|g| g / (1.0 + (-g).exp()));
        silu.zip(up).map(|(silu, up)| silu * up).collect()
    }

    #[test]
    fn forward_and_backward_agree_with_the_definition() {
        for len in [1, 16, 333] {
            let gate: Vec<f32> = random(1, len).iter().map(|x| 5.0 * x).collect();
            let (up, dout) = (random(2, len), random(3, len));
            let (gd, ud) = (wide(&gate), wide(&up));
            let mut out = vec![f32::NAN; len];
            silu_mul(&mut out, &gate, &up);
            assert_close(&out, &reference(&gd, &ud), 3e-7);

            let [mut dgate, mut dup] = [(); 2].map(|()| vec![f32::NAN; len]);
            silu_mul_backward(&mut dgate, &mut dup, &dout, &gate, &up);
            let want = gradient(&gate, |g| inner(&reference(g, &ud), &dout));
            assert_close(&dgate, &want, 1e-6);
            let want = gradient(&up, |u| inner(&reference(&gd, u), &dout));
            assert_close(&dup, &want, 1e-6);
        }
    }

    #[test]
    fn large_gates_saturate_and_nan_passes() {
        let (gate, up) = ([-1e4, 1e4, f32::NAN, 1.0], [2.0, 2.0, 2.0, f32::NAN]);
        let mut out = [0.5; 4];
        silu_mul(&mut out, &gate, &up);
        assert_eq!(out[..2], [0.0, 2e4]);
        assert!(out[2].is_nan() && out[3].is_nan());
        let [mut dgate, mut dup] = [[0.5; 4]; 2];
        silu_mul_backward(&mut dgate, &mut dup, &[1.0; 4], &gate, &up);
        assert_eq!((&dgate[..2], &dup[..2]), (&[0.0, 2.0][..], &[0.0, 1e4][..]));
        assert!(dgate[2].is_nan() && dgate[3].is_nan() && dup[2].is_nan());
    }

    #[test]
    fn the_cut_into_pieces_changes_nothing() {
        let (gate, up) = (random(1, 100_001), random(2, 100_001));
        let got = repeatable(|| {
            let [mut out, mut dgate, mut dup] = [(); 3].map(|()| vec![f32::NAN; gate.len()]);
            silu_mul(&mut out, &gate, &up);
            silu_mul_backward(&mut dgate, &mut dup, &up, &gate, &up);
            [out, dgate, dup].concat()
        });
        let pairs = || gate.iter().zip(&up);
        let out = pairs().map(|(&g, &u)| g * sigmoid(g) * u);
        let dgate = pairs().map(|(&g, &u)| u * u * silu_slope(g, sigmoid(g)));
        let dup = pairs().map(|(&g, &u)| u * g * sigmoid(g));
        assert_eq!(got, out.chain(dgate).chain(dup).collect::<Vec<_>>());
    }

    #[test]
    #[should_panic(expected = "lengths of a gated unit")]
    fn refuses_lengths_that_differ() {
        silu_mul(&mut [0.0; 2], &[0.0; 2], &[0.0; 3]);
    }
}
