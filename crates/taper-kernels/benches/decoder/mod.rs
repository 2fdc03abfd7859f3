//! The kernels of causal language models, at the shapes of SmolLM2-135M, Qwen2.5-0.5B and GPT-2.

use std::hint::black_box;

use half::bf16;
use taper_kernels::*;

use super::{Bench, values};

pub(super) fn run(bench: &Bench) {
    for (rows, cols) in [(512, 576), (1024, 896), (7168, 64)] {
        norms(bench, rows, cols);
    }
    positions(bench);
    for (rows, cols) in [(512, 1536), (1024, 4864)] {
        gates(bench, rows, cols);
    }
    for (len, window) in [(128, None), (512, None), (2048, None), (2048, Some(256))] {
        attention(bench, len, window);
    }
    layouts(bench);
    for (rows, inputs, outputs) in [
        (200, 576, 1536),
        (512, 576, 576),
        (512, 576, 192),
        (512, 576, 1536),
        (512, 1536, 576),
    ] {
        frozen(bench, rows, inputs, outputs);
    }
    for chunk in [64, 256] {
        losses(bench, chunk);
    }
}

fn norms(bench: &Bench, rows: usize, cols: usize) {
    let name = |what| format!("{what} {rows}x{cols}");
    let (x, dy) = (values(rows * cols), values(rows * cols));
    let (mut out, mut sum) = (values(rows * cols), values(rows * cols));
    let (gamma, mut dgamma, mut rstd) = (values(cols), values(cols), vec![0.0; rows]);
    let norm = RmsNorm {
        gamma: &gamma,
        eps: 1e-5,
    };
    bench.run(&name("add_rms_norm"), None, || {
        let residual = Residual {
            values: &x,
            dropout: None,
        };
        add_rms_norm(&mut out, &mut rstd, &mut sum, residual, norm);
        if sum[0].abs() > 1e30 {
            sum.fill(0.0);
        }
    });
    bench.run(&name("rms_norm"), None, || {
        rms_norm(&mut out, &mut rstd, &x, norm)
    });
    rms_norm(&mut out, &mut rstd, &x, norm);
    let saved = Normalised {
        x: &x,
        stats: &rstd,
    };
    bench.run(&name("rms_norm_backward frozen"), None, || {
        rms_norm_backward(&mut out, None, &dy, saved, &gamma)
    });
    bench.run(&name("rms_norm_backward"), None, || {
        rms_norm_backward(&mut out, Some(&mut dgamma), &dy, saved, &gamma)
    });
}

fn positions(bench: &Bench) {
    let (tokens, heads, head_dim) = (512, 9, 64);
    let angles = (0..tokens * head_dim / 2).map(|i| i as f32 / 100.0);
    let (sin, cos): (Vec<f32>, Vec<f32>) = angles.map(f32::sin_cos).unzip();
    let table = RopeTable {
        cos: &cos,
        sin: &sin,
    };
    let positions: Vec<u32> = (0..tokens as u32).collect();
    let mut x = values(tokens * heads * head_dim);
    bench.run("rope 512x9x64", None, || {
        rope(&mut x, &table, &positions, heads, head_dim)
    });
}

fn gates(bench: &Bench, rows: usize, cols: usize) {
    let name = |what| format!("{what} {rows}x{cols}");
    let [gate, up, dout] = [(); 3].map(|()| values(rows * cols));
    let [mut out, mut dgate, mut dup] = [(); 3].map(|()| values(rows * cols));
    bench.run(&name("silu_mul"), None, || silu_mul(&mut out, &gate, &up));
    bench.run(&name("silu_mul_backward"), None, || {
        silu_mul_backward(&mut dgate, &mut dup, &dout, &gate, &up)
    });
    bench.run(&name("gelu_tanh"), None, || gelu_tanh(&mut out, &up));
    bench.run(&name("gelu_tanh_backward"), None, || {
        gelu_tanh_backward(&mut out, &dout, &up)
    });
}

fn attention(bench: &Bench, len: usize, window: Option<usize>) {
    let (heads, kv_heads, head_dim) = (9, 3, 64);
    let sequences = 2048 / len;
    let offsets: Vec<usize> = (0..=sequences).map(|i| i * len).collect();
    let attention = Attention {
        heads,
        kv_heads,
        head_dim,
        scale: 0.125,
        causal: true,
        window,
        dropout: None,
        offsets: &offsets,
    };
    let (wide, narrow) = (2048 * heads * head_dim, 2048 * kv_heads * head_dim);
    let (q, k, v) = (values(wide), values(narrow), values(narrow));
    let (mut dq, mut dk, mut dv) = (values(wide), values(narrow), values(narrow));
    let (dout, mut out, mut lse) = (values(wide), values(wide), vec![0.0; heads * 2048]);
    let qkv = Qkv {
        q: &q,
        k: &k,
        v: &v,
    };
    // What the mask leaves, so that the share of the peak counts no wasted work as useful.
    let seen: usize = (1..=len).map(|i| i.min(window.unwrap_or(len))).sum();
    let product = 2.0 * (sequences * seen * heads * head_dim) as f64;
    let sight = window.map_or(String::new(), |window| format!(" window {window}"));
    let name = |pass| format!("attention causal {pass} {sequences}x{len}x9/3x64{sight}");
    bench.run(&name("forward"), Some(2.0 * product), || {
        attention.forward(&mut out, &mut lse, qkv)
    });
    attention.forward(&mut out, &mut lse, qkv);
    let attended = Attended {
        out: &out,
        lse: &lse,
    };
    bench.run(&name("backward"), Some(5.0 * product), || {
        let gradients = QkvGradients {
            dq: &mut dq,
            dk: &mut dk,
            dv: &mut dv,
        };
        attention.backward(gradients, &dout, qkv, attended)
    });
}

fn layouts(bench: &Bench) {
    let (rows, inputs, outputs) = (1024, 768, 3072);
    let flops = Some(2.0 * (rows * inputs * outputs) as f64);
    let (mut x, mut w) = (values(rows * inputs), values(inputs * outputs));
    let (b, mut y) = (values(outputs), values(rows * outputs));
    let layout = Layout::InOut;
    bench.run("in-out linear 1024x768->3072", flops, || {
        layout.linear(&mut y, &x, &w, Some(&b), rows)
    });
    bench.run("in-out backward_input 1024x768->3072", flops, || {
        layout.backward_input(&mut x, false, &y, &w, rows)
    });
    bench.run("in-out backward_weight 1024x768->3072", flops, || {
        layout.backward_weight(&mut w, &y, &x, rows)
    });
}

/// Layers whose weights are kept in bf16.
fn frozen(bench: &Bench, rows: usize, inputs: usize, outputs: usize) {
    let flops = Some(2.0 * (rows * inputs * outputs) as f64);
    let stored: Vec<bf16> = values(inputs * outputs)
        .into_iter()
        .map(bf16::from_f32)
        .collect();
    let (mut x, mut y) = (values(rows * inputs), values(rows * outputs));
    let name = |what| format!("bf16 {what} {rows}x{inputs}->{outputs}");
    let layout = Layout::OutIn;
    bench.run(&name("linear"), flops, || {
        layout.linear(&mut y, &x, &stored, None, rows)
    });
    bench.run(&name("backward_input"), flops, || {
        layout.backward_input(&mut x, false, &y, &stored, rows)
    });
}

fn losses(bench: &Bench, chunk: usize) {
    let (rows, hidden, vocabulary) = (512, 576, 49_152);
    let (x, w) = (values(rows * hidden), values(vocabulary * hidden));
    let (mut dhidden, mut dweight) = (values(rows * hidden), values(vocabulary * hidden));
    let mut row_losses = vec![TargetLoss::default(); rows];
    let targets: Vec<u32> = (0..rows as u32).map(|i| i * 7919 % 49_152).collect();
    let product = 2.0 * (rows * hidden * vocabulary) as f64;
    let name = |what| format!("linear_cross_entropy{what} 512x576->49152 by {chunk}");
    bench.run(&name("_forward"), Some(product), || {
        black_box(linear_cross_entropy_forward(
            &mut row_losses,
            &x,
            &w,
            &targets,
            chunk,
        ));
    });
    for trained in [false, true] {
        let (what, products) = if trained {
            (" trained", 3.0)
        } else {
            (" frozen", 2.0)
        };
        bench.run(&name(what), Some(products * product), || {
            let gradients = LmGradients {
                dhidden: &mut dhidden,
                dweight: trained.then_some(&mut dweight[..]),
                scale: 1.0,
            };
            black_box(linear_cross_entropy(gradients, &x, &w, &targets, chunk));
        });
    }
}
