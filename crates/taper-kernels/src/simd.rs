//! Run-time dispatch to the widest instruction set, and sums whose order is fixed.
//!
//! Kernels are plain loops over slices, written so that the compiler vectorises them. [`dispatch`]
//! compiles the loop once per instruction set (AVX-512, AVX2 with FMA, NEON, scalar) and picks one
//! at run time. Every function called inside must be `#[inline(always)]`: a call that is not
//! inlined leaves the chosen instruction set.
//!
//! All versions compute the same operations in the same order (`mul_add` is fused everywhere), so
//! results do not depend on the instruction set.

use pulp::Arch;

/// Independent partial sums: one register of the widest instruction set. More of them measure
/// slower, since the compiler then keeps them in memory.
const LANES: usize = 16;

/// Runs `kernel` with the widest instruction set this machine has.
#[inline(always)]
pub(crate) fn dispatch<R>(kernel: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(kernel)
}

/// Sums `term` over the elements of one slice.
#[inline(always)]
pub(crate) fn sum(x: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let fold = |p: f32, x: f32| p + term(x);
    halve(fold_lanes(x, 0.0, fold), |a, b| a + b)
}

/// Returns the largest element; NaN is passed over, negative infinity stands for no elements.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    halve(fold_lanes(x, f32::NEG_INFINITY, larger), larger)
}

/// Sums `term` over the pairs of elements of two slices of one length.
#[inline(always)]
pub(crate) fn sum2(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut partial = [0.0; LANES];
    let (a_blocks, a_tail) = a.as_chunks::<LANES>();
    let (b_blocks, b_tail) = b.as_chunks::<LANES>();
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for ((p, &a), &b) in partial.iter_mut().zip(a).zip(b) {
            *p += term(a, b);
        }
    }
    for ((p, &a), &b) in partial.iter_mut().zip(a_tail).zip(b_tail) {
        *p += term(a, b);
    }
    halve(partial, |a, b| a + b)
}

/// Folds the elements into [`LANES`] results.
#[inline(always)]
fn fold_lanes(x: &[f32], start: f32, fold: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    let mut partial = [start; LANES];
    let (blocks, tail) = x.as_chunks::<LANES>();
    for block in blocks {
        for (p, &x) in partial.iter_mut().zip(block) {
            *p = fold(*p, x);
        }
    }
    for (p, &x) in partial.iter_mut().zip(tail) {
        *p = fold(*p, x);
    }
    partial
}

/// Combines the partial results pairwise, halving their number each time.
#[inline(always)]
fn halve(mut partial: [f32; LANES], combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        let (low, high) = partial.split_at_mut(width);
        for (l, &h) in low.iter_mut().zip(&*high) {
            *l = combine(*l, h);
        }
        width /= 2;
    }
    partial[0]
}

/// Computes `out += x`.
#[inline(always)]
pub(crate) fn add(out: &mut [f32], x: &[f32]) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out += x;
    }
}
