//! A backend that has some kernels and takes the others from the reference, as one that is being written does.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor};

use super::{difference, gradients::OPERATIONS};
use crate::{
    Backend, Cpu,
    backend::{Attended, NormSums, Normalization, Normalized, Weight},
    ops::{Activation, Heads, RopeAngles},
};

/// Forward passes of the one, backward passes of the other, and operations in place between them.
#[derive(Debug)]
struct Partial;

impl Backend for Partial {
    fn device(&self) -> &Device {
        &Device::Cpu
    }

    fn linear(&self, x: &Tensor, weight: Weight<'_>, bias: Option<&Tensor>) -> Result<Tensor> {
        Cpu.linear(x, weight, bias)
    }

    fn attention_backward(
        &self,
        dy: &Tensor,
        qkv: [&Tensor; 3],
        attended: &Attended,
        offsets: &[usize],
        heads: Heads,
    ) -> Result<[Tensor; 3]> {
        Cpu.attention_backward(dy, qkv, attended, offsets, heads)
    }

    fn norm_backward(
        &self,
        dy: &Tensor,
        saved: Normalized<'_>,
        norm: Normalization<'_>,
        sums: NormSums,
    ) -> Result<(Tensor, NormSums)> {
        Cpu.norm_backward(dy, saved, norm, sums)
    }

    fn activation_backward(&self, dy: &Tensor, x: &Tensor, function: Activation) -> Result<Tensor> {
        Cpu.activation_backward(dy, x, function)
    }

    fn add_assign(&self, sum: Tensor, x: &Tensor) -> Result<Tensor> {
        Cpu.add_assign(sum, x)
    }

    fn rope_backward(&self, dy: Tensor, angles: &RopeAngles, positions: &[u32]) -> Result<Tensor> {
        Cpu.rope_backward(dy, angles, positions)
    }
}

#[test]
fn what_a_backend_lacks_is_the_references() {
    for operation in OPERATIONS {
        let (name, parameters) = (operation.name, operation.parameters());
        let (_, found) = operation.gradients(Arc::new(Partial), &parameters, None);
        let (_, expected) = operation.gradients(Arc::new(Cpu), &parameters, None);
        for (id, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let difference = difference(found.as_ref().unwrap(), expected.as_ref().unwrap());
            assert!(
                difference < 1e-5,
                "{name}: parameter {id} differs by {difference}"
            );
        }
    }
}
