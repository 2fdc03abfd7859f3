//! Calls that take more than a line.

use candle_core::{DType, Result, Tensor};
use taper_kernels::{AdamW, Layout, TargetLoss, Update};

use super::{
    super::{numbers, random},
    Size,
    inputs::*,
};
use crate::{
    Backend,
    backend::{Matrix, NormSums, Normalized, Optimized, Weight},
    ops::{Activation, Dropout},
};

pub(super) fn matmul(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
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

pub(super) fn linear(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
    let (bias, mut results) = (random(4, s.outputs), Vec::new());
    for (weight, layout) in weights(s)? {
        for bias in [None, Some(&bias)] {
            results.push(backend.linear(&x(s), Weight::new(&weight, layout), bias)?);
        }
    }
    Ok(results)
}

pub(super) fn linear_backward_input(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
    let mut results = Vec::new();
    for (weight, layout) in weights(s)? {
        for dx in [None, Some(x(s))] {
            let weight = Weight::new(&weight, layout);
            results.push(backend.linear_backward_input(dx, &dy(s), weight)?);
        }
    }
    Ok(results)
}

pub(super) fn linear_backward_weight(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
    let (out_in, in_out) = (
        random(3, (s.outputs, s.inputs)),
        random(4, (s.inputs, s.outputs)),
    );
    Ok(vec![
        backend.linear_backward_weight(out_in, &dy(s), &x(s), Layout::OutIn)?,
        backend.linear_backward_weight(in_out, &dy(s), &x(s), Layout::InOut)?,
    ])
}

pub(super) fn attention(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
    let mut results = Vec::new();
    for (heads, [q, k, v]) in heads(s) {
        let attended = backend.attention([&q, &k, &v], &offsets(s), heads)?;
        results.extend([attended.out, attended.lse]);
    }
    Ok(results)
}

pub(super) fn attention_backward(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
    let mut results = Vec::new();
    for (heads, [q, k, v]) in heads(s) {
        let (qkv, dy) = ([&q, &k, &v], random(4, q.shape()));
        let attended = backend.attention(qkv, &offsets(s), heads)?;
        results.extend(backend.attention_backward(&dy, qkv, &attended, &offsets(s), heads)?);
    }
    Ok(results)
}

pub(super) fn norm(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
    let mut results = Vec::new();
    for (x, gamma, beta) in norms(s) {
        let normed = backend.norm(&x, parameters(&gamma, beta.as_ref()))?;
        results.extend([normed.y, normed.stats]);
    }
    Ok(results)
}

pub(super) fn add_norm(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
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

pub(super) fn norm_backward(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
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

pub(super) fn activation(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
    let of = |function| backend.activation(&x(s), function);
    FUNCTIONS.into_iter().map(of).collect()
}

pub(super) fn activation_backward(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
    let of = |function| backend.activation_backward(&more(s), &x(s), function);
    FUNCTIONS.into_iter().map(of).collect()
}

pub(super) fn rope(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
    let (angles, positions, x) = turned(backend, s)?;
    Ok(vec![backend.rope(x, &angles, &positions)?])
}

pub(super) fn rope_backward(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
    let (angles, positions, dy) = turned(backend, s)?;
    Ok(vec![backend.rope_backward(dy, &angles, &positions)?])
}

pub(super) fn embedding(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
    let ids = numbers(s.rows, s.outputs);
    let of = |(table, layout): (Tensor, Layout)| {
        (layout == Layout::OutIn).then(|| backend.embedding(&table, &ids))
    };
    weights(s)?.into_iter().filter_map(of).collect()
}

pub(super) fn add_embedding(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
    let ids = numbers(s.rows, s.outputs);
    let of = |(table, layout): (Tensor, Layout)| {
        (layout == Layout::OutIn).then(|| backend.add_embedding(x(s), &table, &ids))
    };
    weights(s)?.into_iter().filter_map(of).collect()
}

pub(super) fn lm_loss(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
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

pub(super) fn lm_loss_forward(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
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

pub(super) fn adamw(backend: &dyn Backend, s: Size) -> Result<Vec<Tensor>> {
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
