//! What the functions are called with.

use candle_core::{DType, Result, Tensor};
use taper_kernels::Layout;

use super::{
    super::{numbers, random},
    Size,
};
use crate::{
    Backend,
    backend::{Columns, Normalization},
    ops::{Dropout, Heads, RopeAngles},
};

pub(super) fn dropped() -> Dropout {
    Dropout::new(0.3, 17)
}

pub(super) fn x(size: Size) -> Tensor {
    random(1, (size.rows, size.inputs))
}

pub(super) fn more(size: Size) -> Tensor {
    random(2, (size.rows, size.inputs))
}

pub(super) fn dy(size: Size) -> Tensor {
    random(5, (size.rows, size.outputs))
}

/// Two sequences, or one where there are too few rows.
pub(super) fn offsets(size: Size) -> Vec<usize> {
    match size.rows / 3 {
        0 => vec![0, size.rows],
        third => vec![0, third, size.rows],
    }
}

/// A gradient behind virtual tokens.
pub(super) fn behind(size: Size) -> Tensor {
    let rows = size.rows + 3 * (offsets(size).len() - 1);
    random(4, (rows, size.inputs))
}

/// Every second row, the last first.
pub(super) fn picked(size: Size) -> Vec<u32> {
    (0..size.rows as u32).rev().step_by(2).collect()
}

/// A matrix, and columns in the middle of it.
pub(super) fn columns(size: Size) -> (Tensor, Columns) {
    let whole = size.outputs + 5;
    let columns = Columns {
        start: 2,
        width: size.outputs,
        whole,
    };
    (random(6, (size.rows, whole)), columns)
}

/// A weight in both layouts and all formats.
pub(super) fn weights(size: Size) -> Result<Vec<(Tensor, Layout)>> {
    let mut weights = Vec::new();
    for format in [DType::F32, DType::F16, DType::BF16] {
        let weight = random(3, (size.outputs, size.inputs)).to_dtype(format)?;
        weights.push((weight.t()?.contiguous()?, Layout::InOut));
        weights.push((weight, Layout::OutIn));
    }
    Ok(weights)
}

/// Heads of every kind, with queries, keys and values for them.
pub(super) fn heads(size: Size) -> Vec<(Heads, [Tensor; 3])> {
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

/// With and without a mean, over whole rows of three pieces' length and over pieces.
pub(super) fn norms(size: Size) -> Vec<(Tensor, Tensor, Option<Tensor>)> {
    let x = || random(1, (size.rows, 3 * size.inputs));
    let mut norms = Vec::new();
    for width in [size.inputs, 3 * size.inputs] {
        let gamma = random(2, width);
        norms.push((x(), gamma.clone(), None));
        norms.push((x(), gamma, Some(random(3, width))));
    }
    norms
}

pub(super) fn parameters<'a>(gamma: &'a Tensor, beta: Option<&'a Tensor>) -> Normalization<'a> {
    Normalization {
        gamma,
        beta,
        // Large, so that a row of one element is no division by nothing.
        eps: 0.1,
    }
}

/// Angles, positions, and queries of three heads.
pub(super) fn turned(backend: &dyn Backend, size: Size) -> Result<(RopeAngles, Vec<u32>, Tensor)> {
    let frequencies: Vec<f64> = (0..size.inputs).map(|i| 0.7 / (i + 1) as f64).collect();
    let angles = RopeAngles::new(&frequencies, 29, backend.device())?;
    let x = random(1, (size.rows, 3 * 2 * size.inputs));
    Ok((angles, numbers(size.rows, 29), x))
}
