use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use rayon::ThreadPoolBuilder;
use taper_autodiff::Work;
use taper_kernels::{View, gelu, matmul};

/// How long each of the two measurements lasts.
const PROBE: Duration = Duration::from_millis(25);
/// Sizes of the product that is measured: rows of a batch, widths of a layer.
const SIZES: [usize; 3] = [512, 384, 1536];
/// Numbers of the other measurement, which do not fit into a core's cache.
const ELEMENTS: usize = 1 << 20;
/// Attention computes exponentials between its small products.
const ATTENTION_SLOWDOWN: f64 = 3.0;

/// What this machine does in a second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Speed {
    /// Floating-point operations of matrix products.
    products: f64,
    /// Numbers read or written by operations on single numbers.
    elements: f64,
}

static SPEED: OnceLock<Speed> = OnceLock::new();

impl Speed {
    /// The speed of `threads` threads, measured once in the life of the process.
    pub(crate) fn of_machine(threads: usize) -> Self {
        *SPEED.get_or_init(|| {
            match ThreadPoolBuilder::new().num_threads(threads).build() {
                Ok(pool) => pool.install(Self::measure),
                // The process has no threads left: those that it has will do.
                Err(_) => Self::measure(),
            }
        })
    }

    fn measure() -> Self {
        let [rows, inputs, outputs] = SIZES;
        let (x, w) = (vec![0.5; rows * inputs], vec![0.5; outputs * inputs]);
        let mut y = vec![0.0; rows * outputs];
        let product = best_of(|| {
            let w = View::new(&w, outputs, inputs).t();
            matmul(&mut y, false, 1.0, View::new(&x, rows, inputs), w);
        });
        let (x, mut y) = (vec![0.5; ELEMENTS], vec![0.0; ELEMENTS]);
        let elementwise = best_of(|| gelu(&mut y, &x));
        Self {
            products: (2 * rows * inputs * outputs) as f64 / product,
            elements: (2 * ELEMENTS) as f64 / elementwise,
        }
    }
}

/// Seconds of the quickest of many calls.
fn best_of(mut act: impl FnMut()) -> f64 {
    let (began, mut best) = (Instant::now(), f64::INFINITY);
    while began.elapsed() < PROBE {
        let start = Instant::now();
        act();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

/// How long the work takes, about.
pub(crate) fn seconds(work: Work, speed: Speed) -> f64 {
    (work.products + ATTENTION_SLOWDOWN * work.attention) / speed.products
        + work.elements / speed.elements
}
