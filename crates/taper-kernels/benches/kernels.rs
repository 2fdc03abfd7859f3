//! Times every kernel at the shapes of fine-tuning; prints milliseconds (best of many) and, for
//! products, the share of the machine's peak.
//!
//! `cargo bench -p taper-kernels --bench kernels -- [filter]`; `TAPER_BENCH_THREADS` sets the
//! threads (default: all).

#![expect(clippy::print_stdout, reason = "the figures are the result")]

mod decoder;

use std::hint::black_box;
use std::time::{Duration, Instant};

use taper_kernels::*;

/// How long each kernel is repeated for.
const BUDGET: Duration = Duration::from_millis(300);

struct Bench {
    filter: Option<String>,
    /// Fused multiply-adds per second of one thread out of registers, times the threads.
    peak: f64,
}

impl Bench {
    /// Times `f`; `flops` is what it computes where the share of the peak is of interest.
    fn run(&self, name: &str, flops: Option<f64>, mut f: impl FnMut()) {
        if self
            .filter
            .as_ref()
            .is_some_and(|filter| !name.contains(filter.as_str()))
        {
            return;
        }
        f();
        let start = Instant::now();
        let mut best = f64::MAX;
        while start.elapsed() < BUDGET {
            let begin = Instant::now();
            f();
            best = best.min(begin.elapsed().as_secs_f64());
        }
        let share = flops.map_or(String::new(), |flops| {
            let rate = flops / best;
            format!(
                "{:6.0} GFLOPS {:3.0} %",
                rate / 1e9,
                100.0 * rate / self.peak
            )
        });
        println!("{name:44} {:9.3} ms {share}", best * 1e3);
    }
}

fn values(len: usize) -> Vec<f32> {
    (0..len)
        .map(|i| ((i * 7919) % 1999) as f32 / 1000.0 - 1.0)
        .collect()
}

fn main() {
    let threads = std::env::var("TAPER_BENCH_THREADS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.expect("threads can be started").install(|| {
        let filter = std::env::args().skip(1).find(|a| !a.starts_with('-'));
        let peak = peak() * rayon::current_num_threads() as f64;
        println!(
            "{} threads, peak {:.0} GFLOPS",
            rayon::current_num_threads(),
            peak / 1e9
        );
        let bench = Bench { filter, peak };
        products(&bench);
        for (len, head_dim) in [(8, 32), (32, 32), (60, 32), (128, 32), (512, 32), (128, 64)] {
            attention(&bench, len, head_dim);
        }
        others(&bench);
        for (rows, cols) in [(480, 384), (480, 1536), (1024, 3072)] {
            elementwise(&bench, rows, cols);
        }
        decoder::run(&bench);
    });
}

/// Measures the multiply-adds per second of one thread, operands in registers.
fn peak() -> f64 {
    let mut best = f64::MAX;
    let mut count = 0.0;
    for _ in 0..9 {
        let start = Instant::now();
        count = pulp::Arch::new().dispatch(Peak { rounds: 1_000_000 });
        best = best.min(start.elapsed().as_secs_f64());
    }
    2.0 * count / best
}

/// Returns how many multiply-adds it did.
struct Peak {
    rounds: usize,
}

impl pulp::WithSimd for Peak {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, simd: S) -> f64 {
        // Twelve registers of sums hide the latency of an addition.
        let mut sums = [simd.splat_f32s(0.0); 12];
        let (a, b) = (
            simd.splat_f32s(black_box(1.0)),
            simd.splat_f32s(black_box(0.5)),
        );
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = simd.mul_add_f32s(a, b, *sum);
            }
        }
        for sum in sums {
            black_box(simd.reduce_sum_f32s(sum));
        }
        (self.rounds * sums.len() * S::F32_LANES) as f64
    }
}

fn products(bench: &Bench) {
    let shapes = [
        (480, 384, 384),
        (480, 384, 1536),
        (480, 1536, 384),
        (480, 384, 8),
        (480, 8, 384),
        (2000, 384, 1536),
        (2000, 1536, 384),
        (1024, 768, 3072),
        (1024, 3072, 768),
    ];
    for (rows, inputs, outputs) in shapes {
        let (x, w, b) = (
            values(rows * inputs),
            values(inputs * outputs),
            values(outputs),
        );
        let (mut y, mut dx) = (values(rows * outputs), values(rows * inputs));
        let (mut dw, mut db) = (values(inputs * outputs), values(outputs));
        let flops = Some(2.0 * (rows * inputs * outputs) as f64);
        let name = |what| format!("{what} {rows}x{inputs}->{outputs}");
        bench.run(&name("linear"), flops, || {
            linear(&mut y, &x, &w, Some(&b), rows)
        });
        bench.run(&name("linear_backward_input"), flops, || {
            linear_backward_input(&mut dx, false, &y, &w, rows)
        });
        bench.run(&name("linear_backward_weight"), flops, || {
            linear_backward_weight(&mut dw, &y, &x, rows)
        });
        bench.run(&name("bias_backward"), None, || bias_backward(&mut db, &y));
    }
}

fn elementwise(bench: &Bench, rows: usize, cols: usize) {
    let name = |what| format!("{what} {rows}x{cols}");
    let (x, dy) = (values(rows * cols), values(rows * cols));
    let (mut out, mut sum) = (values(rows * cols), values(rows * cols));
    let mut stats = vec![0.0; rows * 2];
    let (gamma, beta) = (values(cols), values(cols));
    let (mut dgamma, mut dbeta) = (values(cols), values(cols));
    let mask = Dropout { p: 0.1, key: 1 };
    bench.run(&name("gelu"), None, || gelu(&mut out, &x));
    bench.run(&name("gelu_backward"), None, || {
        gelu_backward(&mut out, &dy, &x)
    });
    bench.run(&name("tanh"), None, || tanh(&mut out, &x));
    bench.run(&name("tanh_backward"), None, || {
        tanh_backward(&mut out, &dy, &x)
    });
    bench.run(&name("dropout"), None, || dropout(&mut out, &x, mask));
    bench.run(&name("dropout_in_place"), None, || {
        dropout_in_place(&mut out, mask)
    });
    bench.run(&name("add_assign"), None, || add_assign(&mut out, &x));
    let norm = LayerNorm {
        gamma: &gamma,
        beta: &beta,
        eps: 1e-12,
    };
    bench.run(&name("layer_norm"), None, || {
        layer_norm(&mut out, &mut stats, &x, norm)
    });
    for (what, dropout) in [
        ("add_layer_norm", None),
        ("dropout+add_layer_norm", Some(mask)),
    ] {
        let residual = Residual {
            values: &x,
            dropout,
        };
        bench.run(&name(what), None, || {
            add_layer_norm(&mut out, &mut stats, &mut sum, residual, norm);
            if sum[0].abs() > 1e30 {
                sum.fill(0.0);
            }
        });
    }
    layer_norm(&mut out, &mut stats, &x, norm);
    let saved = Normalised {
        x: &x,
        stats: &stats,
    };
    bench.run(&name("layer_norm_backward frozen"), None, || {
        layer_norm_backward(&mut out, None, &dy, saved, &gamma)
    });
    bench.run(&name("layer_norm_backward"), None, || {
        layer_norm_backward(
            &mut out,
            Some((&mut dgamma, &mut dbeta)),
            &dy,
            saved,
            &gamma,
        )
    });
}

fn attention(bench: &Bench, len: usize, head_dim: usize) {
    let sequences = 512 / len;
    let (tokens, heads) = (sequences * len, 12);
    let offsets: Vec<usize> = (0..=sequences).map(|i| i * len).collect();
    let [q, k, v, dout] = [(); 4].map(|()| values(tokens * heads * head_dim));
    let [mut out, mut dq, mut dk, mut dv] = [(); 4].map(|()| values(tokens * heads * head_dim));
    let mut lse = vec![0.0; heads * tokens];
    let qkv = Qkv {
        q: &q,
        k: &k,
        v: &v,
    };
    let product = 2.0 * (tokens * len * heads * head_dim) as f64;
    for (what, dropout) in [("", None), ("+dropout", Some(Dropout { p: 0.1, key: 1 }))] {
        let scale = 1.0 / (head_dim as f32).sqrt();
        let offsets = &offsets;
        let attention = Attention {
            heads,
            kv_heads: heads,
            head_dim,
            scale,
            causal: false,
            window: None,
            dropout,
            offsets,
        };
        let name = |pass| format!("attention{what} {pass} {sequences}x{len}x{heads}x{head_dim}");
        bench.run(&name("forward"), Some(2.0 * product), || {
            attention.forward(&mut out, &mut lse, qkv)
        });
        bench.run(&name("backward"), Some(5.0 * product), || {
            let gradients = QkvGradients {
                dq: &mut dq,
                dk: &mut dk,
                dv: &mut dv,
            };
            attention.backward(
                gradients,
                &dout,
                qkv,
                Attended {
                    out: &out,
                    lse: &lse,
                },
            )
        });
    }
}

fn others(bench: &Bench) {
    let (rows, cols, vocabulary) = (480, 384, 30_522);
    let ids: Vec<u32> = (0..rows as u32)
        .map(|i| i * 7919 % vocabulary as u32)
        .collect();
    let (mut table, mut x) = (values(vocabulary * cols), values(rows * cols));
    bench.run("embedding 480x384", None, || {
        embedding(&mut x, &table, &ids)
    });
    bench.run("embedding_backward 480x384", None, || {
        embedding_backward(&mut table, &x, &ids)
    });
    let targets: Vec<u32> = (0..64).map(|i| i % 2).collect();
    let (logits, mut dlogits) = (values(128), values(128));
    bench.run("cross_entropy 64x2", None, || {
        black_box(cross_entropy(&mut dlogits, &logits, 2, &targets));
    });
    let len = 2_360_000;
    let (mut value, gradient) = (values(len), values(len));
    let (mut m, mut v) = (vec![0.0; len], vec![0.0; len]);
    let adamw = AdamW {
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
    };
    let update = Update {
        learning_rate: 1e-5,
        weight_decay: 0.01,
        step: 9,
        gradient_scale: 1.0,
    };
    bench.run("adamw 2.36 M", None, || {
        let (value, m, v) = (&mut value[..], &mut m[..], &mut v[..]);
        adamw.update(
            Parameter {
                value,
                gradient: &gradient,
                m,
                v,
            },
            update,
        )
    });
    bench.run("sum_of_squares 2.36 M", None, || {
        black_box(sum_of_squares(&gradient));
    });
}
