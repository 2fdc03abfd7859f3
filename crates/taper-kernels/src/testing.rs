//! What the tests share: random values, pools of a given size, and finite differences.

/// Returns `len` reproducible values, uniform in `-1..1`.
pub(crate) fn random(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..8).for_each(|_| {
        next();
    });
    (0..len).map(|_| next()).collect()
}

/// Runs `f` on a rayon pool of `threads` threads.
pub(crate) fn on_threads<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap()
        .install(f)
}

/// Runs `f` twice on one and twice on two threads; panics unless equal thread counts give equal
/// bits. Returns the result of two threads.
pub(crate) fn repeatable(f: impl Fn() -> Vec<f32> + Sync) -> Vec<f32> {
    let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let mut last = Vec::new();
    for threads in [1, 2] {
        last = on_threads(threads, &f);
        assert_eq!(
            bits(&last),
            bits(&on_threads(threads, &f)),
            "{threads} threads"
        );
    }
    last
}

pub(crate) fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// Panics unless every value lies within `tolerance`, absolute for small and relative for large ones.
pub(crate) fn assert_close(got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(got) - want).abs() / want.abs().max(1.0);
        assert!(error <= tolerance, "element {i}: {got} instead of {want}");
    }
}

/// Returns the gradient of `loss` at `x` by central differences in `f64`.
pub(crate) fn gradient(x: &[f32], loss: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    const STEP: f64 = 1e-5;
    let mut x = wide(x);
    (0..x.len())
        .map(|i| {
            let middle = x[i];
            x[i] = middle + STEP;
            let above = loss(&x);
            x[i] = middle - STEP;
            let below = loss(&x);
            x[i] = middle;
            (above - below) / (2.0 * STEP)
        })
        .collect()
}

/// Returns the inner product, which turns an output into a scalar loss with gradient `dy`.
pub(crate) fn inner(y: &[f64], dy: &[f32]) -> f64 {
    assert_eq!(y.len(), dy.len());
    y.iter().zip(dy).map(|(y, &d)| y * f64::from(d)).sum()
}
