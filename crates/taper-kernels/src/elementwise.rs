//! Sums and scalings of whole slices.

use rayon::prelude::*;

use crate::parallel::piece_len;
use crate::simd;

/// Computes `out += x`.
pub fn add_assign(out: &mut [f32], x: &[f32]) {
    assert_eq!(out.len(), x.len(), "lengths of an addition");
    let piece = piece_len(x.len(), 1);
    let pieces = out.par_chunks_mut(piece).zip(x.par_chunks(piece));
    pieces.for_each(|(out, x)| {
        simd::dispatch(
            #[inline(always)]
            || simd::add(out, x),
        )
    });
}

/// Computes `x *= factor`.
pub fn scale(x: &mut [f32], factor: f32) {
    if factor == 1.0 {
        return;
    }
    let piece = piece_len(x.len(), 1);
    x.par_chunks_mut(piece).for_each(|x| {
        simd::dispatch(
            #[inline(always)]
            || x.iter_mut().for_each(|x| *x *= factor),
        )
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random;

    #[test]
    fn adds_and_scales_every_element() {
        for len in [0, 1, 17, 50_001] {
            let (x, y) = (random(1, len), random(2, len));
            let mut got = x.clone();
            add_assign(&mut got, &y);
            scale(&mut got, 0.25);
            let want: Vec<f32> = x.iter().zip(&y).map(|(x, y)| (x + y) * 0.25).collect();
            assert_eq!(got, want);
        }
    }
}
