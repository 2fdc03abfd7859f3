//! A call of each function of [`Backend`], with inputs of its own.

use candle_core::{DType, Result, Tensor};
use taper_kernels::{AdamW, Layout, TargetLoss, Update};

use super::{numbers, random};
use crate::{
    Backend,
    backend::{Columns, Matrix, NormSums, Normalization, Normalized, Optimized, Weight},
    ops::{Activation, Dropout, Heads, RopeAngles},
};

/// Rows, widths of inputs and of outputs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    rows: usize,
    inputs: usize,
    outputs: usize,
}

/// No multiples of anything; the last has more rows than a chunk of logits.
pub(super) const SIZES: [Size; 4] = [
    size(1, 1, 2),
    size(5, 7, 3),
    size(37, 19, 23),
    size(131, 67, 41),
];

const fn size(rows: usize, inputs: usize, outputs: usize) -> Size {
    Size {
        rows,
        inputs,
        outputs,
    }
}

/// The results of a call.
type Case = fn(&dyn Backend, Size) -> Result<Vec<Tensor>>;

pub(super) const CASES: &[(&str, Case)] = &[
    ("zeros", |b, s| {
        Ok(vec![b.zeros(&(s.rows, s.inputs).into())?])
    }),
    ("copy", |b, s| Ok(vec![b.copy(&x(s))?])),
    ("add_assign", |b, s| Ok(vec![b.add_assign(x(s), &more(s))?])),
    ("scale", |b, s| {
        Ok(vec![b.scale(x(s), &random(3, ()), 7.0)?])
    }),
    ("matmul", matmul),
    ("linear", linear),
    ("linear_backward_input", linear_backward_input),
    ("linear_backward_weight", linear_backward_weight),
    ("linear_backward_bias", |b, s| {
        Ok(vec![b.linear_backward_bias(random(3, s.outputs), &dy(s))?])
    }),
    ("attention", attention),
    ("attention_backward", attention_backward),
    ("norm", norm),
    ("add_norm", add_norm),
    ("norm_backward", norm_backward),
    ("activation", activation),
    ("activation_backward", activation_backward),
    ("silu_mul", |b, s| Ok(vec![b.silu_mul(&x(s), &more(s))?])),
    ("silu_mul_backward", |b, s| {
        Ok(
            b.silu_mul_backward(&random(4, (s.rows, s.inputs)), &x(s), &more(s))?
                .to_vec(),
        )
    }),
    ("rope", rope),
    ("rope_backward", rope_backward),
    ("embedding", embedding),
    ("add_embedding", add_embedding),
    ("embedding_backward", |b, s| {
        let (table, ids) = (random(3, (s.inputs, s.outputs)), numbers(s.rows, s.inputs));
        Ok(vec![b.embedding_backward(table, &dy(s), &ids)?])
    }),
    ("prepend", |b, s| {
        let prompt = random(3, (3, s.inputs));
        Ok(vec![b.prepend(&x(s), &prompt, &offsets(s))?])
    }),
    ("prepend_backward", |b, s| {
        Ok(vec![b.prepend_backward(&behind(s), 3, &offsets(s))?])
    }),
    ("prepend_backward_prompt", |b, s| {
        let dprompt = random(3, (3, s.inputs));
        Ok(vec![b.prepend_backward_prompt(
            dprompt,
            &behind(s),
            &offsets(s),
        )?])
    }),
    ("select_rows", |b, s| {
        Ok(vec![b.select_rows(&x(s), &picked(s))?])
    }),
    ("select_rows_backward", |b, s| {
        let dy = random(3, (picked(s).len(), s.inputs));
        Ok(vec![b.select_rows_backward(&dy, &picked(s), s.rows)?])
    }),
    ("select_columns", |b, s| {
        let (x, columns) = columns(s);
        Ok(vec![b.select_columns(&x, columns)?])
    }),
    ("select_columns_backward", |b, s| {
        let (x, columns) = columns(s);
        let alone = b.select_columns_backward(None, &dy(s), columns)?;
        Ok(vec![
            alone,
            b.select_columns_backward(Some(x), &dy(s), columns)?,
        ])
    }),
    ("dropout", |b, s| Ok(vec![b.dropout(&x(s), dropped())?])),
    ("dropout_in_place", |b, s| {
        Ok(vec![b.dropout_in_place(x(s), dropped())?])
    }),
    ("add", |b, s| {
        let with = |dropout| b.add(&x(s), more(s), dropout);
        Ok(vec![with(Dropout::OFF)?, with(dropped())?])
    }),
    ("cross_entropy", |b, s| {
        let labels = numbers(s.rows, s.outputs);
        let (loss, gradient) = b.cross_entropy(&dy(s), &labels, 2 * s.rows)?;
        Ok(vec![loss, gradient])
    }),
    ("lm_loss", lm_loss),
    ("lm_loss_forward", lm_loss_forward),
    ("sums_of_squares", |b, s| {
        let sums = b.sums_of_squares(&[&x(s), &dy(s)])?;
        let sums: Vec<f32> = sums.into_iter().map(|sum| sum as f32).collect();
        Ok(vec![Tensor::from_vec(sums, 2, b.device())?])
    }),
    ("adamw", adamw),
];

fn dropped() -> Dropout {
    Dropout::new(0.3, 17)
}

fn x(size: Size) -> Tensor {
    random(1, (size.rows, size.inputs))
}

fn more(size: Size) -> Tensor {
    random(2, (size.rows, size.inputs))
}

fn dy(size: Size) -> Tensor {
    random(5, (size.rows, size.outputs))
}

/// Two sequences, or one where there are too few rows.
fn offsets(size: Size) -> Vec<usize> {
    match size.rows / 3 {
        0 => vec![0, size.rows],
        third => vec![0, third, size.rows],
    }
}

/// A gradient behind virtual tokens.
fn behind(size: Size) -> Tensor {
    let rows = size.rows + 3 * (offsets(size).len() - 1);
    random(4, (rows, size.inputs))
}

/// Every second row, the last first.
fn picked(size: Size) -> Vec<u32> {
    (0..size.rows as u32).rev().step_by(2).collect()
}

/// A matrix, and columns in the middle of it.
fn columns(size: Size) -> (Tensor, Columns) {
    let whole = size.outputs + 5;
    let columns = Columns {
        start: 2,
        width: size.outputs,
        whole,
    };
    (random(6, (size.rows, whole)), columns)
}

fn matmul(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
    let sum = || random(3, (s.rows, s.outputs));
    let (a, a_turned) = (x(s), random(7, (s.inputs, s.rows)));
    let (b, b_turned) = (
        random(8, (s.inputs, s.outputs)),
        random(9, (s.outputs, s.inputs)).to_dtype(DType::BF16)?,
    );
    let [a, a_turned, b, b_turned] = [&a, &a_turned, &b, &b_turned].map(Matrix::new);
    Ok(vec![
        backend.matmul(None, 1.0, a, b)?,
        backend.matmul(Some(sum()), 0.5, a_turned.t(), b)?,
        backend.matmul(Some(sum()), 2.0, a, b_turned.t())?,
    ])
}

/// A weight in both layouts and all formats.
fn weights(size: Size) -> Result<Vec<(Tensor, Layout)>> {
    let mut weights = Vec::new();
    for format in [DType::F32, DType::F16, DType::BF16] {
        let weight = random(3, (size.outputs, size.inputs)).to_dtype(format)?;
        weights.push((weight.t()?.contiguous()?, Layout::InOut));
        weights.push((weight, Layout::OutIn));
    }
    Ok(weights)
}

fn linear(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
    let (bias, mut results) = (random(4, s.outputs), Vec::new());
    for (weight, layout) in weights(s)? {
        for bias in [None, Some(&bias)] {
            results.push(backend.linear(&x(s), Weight::new(&weight, layout), bias)?);
        }
    }
    Ok(results)
}

fn linear_backward_input(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
    let mut results = Vec::new();
    for (weight, layout) in weights(s)? {
        for dx in [None, Some(x(s))] {
            let weight = Weight::new(&weight, layout);
            results.push(backend.linear_backward_input(dx, &dy(s), weight)?);
        }
    }
    Ok(results)
}

fn linear_backward_weight(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
    let (out_in, in_out) = (
        random(3, (s.outputs, s.inputs)),
        random(4, (s.inputs, s.outputs)),
    );
    Ok(vec![
        backend.linear_backward_weight(out_in, &dy(s), &x(s), Layout::OutIn)?,
        backend.linear_backward_weight(in_out, &dy(s), &x(s), Layout::InOut)?,
    ])
}

/// Heads of every kind, with queries, keys and values for them.
fn heads(size: Size) -> Vec<(Heads, [Tensor; 3])> {
    let kinds = [
        (3, 3, false, None, Dropout::OFF),
        (4, 2, true, None, Dropout::OFF),
        (2, 1, true, Some(3), dropped()),
        (2, 2, false, None, dropped()),
    ];
    let of = |(count, key_values, causal, window, dropout)| {
        let heads = Heads {
            count,
            key_values,
            dim: size.inputs,
            causal,
            window,
            dropout,
        };
        let [q, k, v] = [(1, count), (2, key_values), (3, key_values)]
            .map(|(seed, heads)| random(seed, (size.rows, heads * size.inputs)));
        (heads, [q, k, v])
    };
    kinds.map(of).to_vec()
}

fn attention(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
    let mut results = Vec::new();
    for (heads, [q, k, v]) in heads(s) {
        let attended = backend.attention([&q, &k, &v], &offsets(s), heads)?;
        results.extend([attended.out, attended.lse]);
    }
    Ok(results)
}

fn attention_backward(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
    let mut results = Vec::new();
    for (heads, [q, k, v]) in heads(s) {
        let (qkv, dy) = ([&q, &k, &v], random(4, q.shape()));
        let attended = backend.attention(qkv, &offsets(s), heads)?;
        results.extend(backend.attention_backward(&dy, qkv, &attended, &offsets(s), heads)?);
    }
    Ok(results)
}

/// With and without a mean, over whole rows of three pieces' length and over pieces.
fn norms(size: Size) -> Vec<(Tensor, Tensor, Option<Tensor>)> {
    let x = || random(1, (size.rows, 3 * size.inputs));
    let mut norms = Vec::new();
    for width in [size.inputs, 3 * size.inputs] {
        let gamma = random(2, width);
        norms.push((x(), gamma.clone(), None));
        norms.push((x(), gamma, Some(random(3, width))));
    }
    norms
}

fn parameters<'a>(gamma: &'a Tensor, beta: Option<&'a Tensor>) -> Normalization<'a> {
    Normalization {
        gamma,
        beta,
        // Large, so that a row of one element is no division by nothing.
        eps: 0.1,
    }
}

fn norm(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
    let mut results = Vec::new();
    for (x, gamma, beta) in norms(s) {
        let normed = backend.norm(&x, parameters(&gamma, beta.as_ref()))?;
        results.extend([normed.y, normed.stats]);
    }
    Ok(results)
}

fn add_norm(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
    let mut results = Vec::new();
    for (x, gamma, beta) in norms(s) {
        for dropout in [Dropout::OFF, dropped()] {
            let branch = random(4, x.shape());
            let norm = parameters(&gamma, beta.as_ref());
            let (sum, normed) = backend.add_norm(branch, dropout, &x, norm)?;
            results.extend([sum, normed.y, normed.stats]);
        }
    }
    Ok(results)
}

fn norm_backward(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
    let mut results = Vec::new();
    for (x, gamma, beta) in norms(s) {
        let norm = parameters(&gamma, beta.as_ref());
        let stats = backend.norm(&x, norm)?.stats;
        let saved = Normalized {
            x: &x,
            stats: &stats,
        };
        for (trains_gamma, trains_beta) in
            [(false, false), (true, false), (false, true), (true, true)]
        {
            let sum = |seed| random(seed, gamma.shape());
            let sums = NormSums {
                gamma: trains_gamma.then(|| sum(5)),
                beta: (trains_beta && beta.is_some()).then(|| sum(6)),
            };
            let wanted = (sums.gamma.is_some(), sums.beta.is_some());
            let dy = random(4, x.shape());
            let (dx, sums) = backend.norm_backward(&dy, saved, norm, sums)?;
            assert_eq!((sums.gamma.is_some(), sums.beta.is_some()), wanted);
            results.push(dx);
            results.extend(sums.gamma.into_iter().chain(sums.beta));
        }
    }
    Ok(results)
}

const FUNCTIONS: [Activation; 4] = [
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::Relu,
    Activation::Tanh,
];

fn activation(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
    let of = |function| backend.activation(&x(s), function);
    FUNCTIONS.into_iter().map(of).collect()
}

fn activation_backward(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
    let of = |function| backend.activation_backward(&more(s), &x(s), function);
    FUNCTIONS.into_iter().map(of).collect()
}

/// Angles, positions, and queries of three heads.
fn turned(backend: &dyn Backend, size: Size) -> Result<(RopeAngles, Vec<u32>, Tensor)> {
    let frequencies: Vec<f64> = (0..size.inputs).map(|i| 0.7 / (i + 1) as f64).collect();
    let angles = RopeAngles::new(&frequencies, 29, backend.device())?;
    let x = random(1, (size.rows, 3 * 2 * size.inputs));
    Ok((angles, numbers(size.rows, 29), x))
}

fn rope(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
    let (angles, positions, x) = turned(backend, s)?;
    Ok(vec![backend.rope(x, &angles, &positions)?])
}

fn rope_backward(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
    let (angles, positions, dy) = turned(backend, s)?;
    Ok(vec![backend.rope_backward(dy, &angles, &positions)?])
}

fn embedding(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
    let ids = numbers(s.rows, s.outputs);
    let of = |(table, layout): (Tensor, Layout)| {
        (layout == Layout::OutIn).then(|| backend.embedding(&table, &ids))
    };
    weights(s)?.into_iter().filter_map(of).collect()
}

fn add_embedding(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
    let ids = numbers(s.rows, s.outputs);
    let of = |(table, layout): (Tensor, Layout)| {
        (layout == Layout::OutIn).then(|| backend.add_embedding(x(s), &table, &ids))
    };
    weights(s)?.into_iter().filter_map(of).collect()
}

fn lm_loss(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
    let (next, mut results) = (numbers(s.rows, s.outputs), Vec::new());
    for (table, layout) in weights(s)? {
        if layout == Layout::InOut {
            continue;
        }
        for trained in [false, true] {
            let loss = backend.lm_loss(&x(s), &table, &next, 3 * s.rows, trained)?;
            assert_eq!(loss.dtable.is_some(), trained);
            let correct = Tensor::full(loss.correct as f32, 1, backend.device())?;
            results.extend([loss.loss, loss.dstates, correct]);
            results.extend(loss.dtable);
        }
    }
    Ok(results)
}

fn lm_loss_forward(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
    let (next, mut results) = (numbers(s.rows, s.outputs), Vec::new());
    for (table, layout) in weights(s)? {
        if layout == Layout::OutIn {
            let (loss, each) = backend.lm_loss_forward(&x(s), &table, &next, 3 * s.rows)?;
            let figures = |of: fn(&TargetLoss) -> f32| {
                let figures: Vec<f32> = each.iter().map(of).collect();
                Tensor::from_vec(figures, each.len(), backend.device())
            };
            results.extend([
                loss,
                figures(|target| target.loss)?,
                figures(|target| f32::from(u8::from(target.correct)))?,
            ]);
        }
    }
    Ok(results)
}

fn adamw(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
    let adamw = AdamW {
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
    };
    let [value, gradient, m, v] = [1, 2, 3, 4].map(|seed| random(seed, (s.rows, s.inputs)));
    let v = v.sqr()?;
    for step in [1, 7] {
        let parameter = Optimized {
            value: &value,
            gradient: &gradient,
            m: &m,
            v: &v,
        };
        let update = Update {
            learning_rate: 0.01,
            weight_decay: 0.1,
            step,
            gradient_scale: 0.5,
        };
        backend.adamw(parameter, adamw, update)?;
    }
    Ok(vec![value, m, v])
}
