//! Every function of [`Backend`](crate::Backend) on the CPU against the reference, and every operation against finite differences.

mod backends;
mod cases;
mod counting;
mod gradients;
mod mixed;

use candle_core::{Device, Shape, Tensor};

/// Reproducible values, uniform in `-1..1`.
fn random(seed: u64, shape: impl Into<Shape>) -> Tensor {
    let shape = shape.into();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let values: Vec<f32> = (0..shape.elem_count() + 8)
        .map(|_| next())
        .skip(8)
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Numbers below `below`, all of which come up.
fn numbers(count: usize, below: usize) -> Vec<u32> {
    (0..count).map(|i| (i * 7 % below) as u32).collect()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// The largest difference, relative to the largest value that is expected.
fn difference(found: &Tensor, expected: &Tensor) -> f32 {
    assert_eq!(found.dims(), expected.dims());
    let (found, expected) = (values(found), values(expected));
    let scale = expected.iter().map(|x| x.abs()).fold(1.0, f32::max);
    let largest = found
        .iter()
        .zip(&expected)
        .map(|(a, b)| (a - b).abs())
        // `max` alone would lose a NaN.
        .fold(0.0, |most: f32, d| if d <= most { most } else { d });
    largest / scale
}
