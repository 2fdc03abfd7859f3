//! Every function of [`Backend`], put together from candle's operations.
//!
//! A backward here is candle's autograd of that one operation: a vector-Jacobian product ([`vjp`]). So the reference is the oracle of
//! every other backend, operation by operation, and what a backend has that lacks a kernel. Nothing is fused and nothing is fast.

mod arrange;
mod attention;
mod elementwise;
mod embedding;
mod linear;
mod loss;
mod norm;
mod optimizer;
mod rope;

use candle_core::{Device, Result, Tensor, Var};

use super::Backend;
pub(super) use arrange::*;
pub(super) use attention::*;
pub(super) use elementwise::*;
pub(super) use embedding::*;
pub(super) use linear::*;
pub(super) use loss::*;
pub(super) use norm::*;
pub(super) use optimizer::*;
pub(super) use rope::*;

/// The backend that is made of candle's operations alone, for any device of candle's.
#[derive(Clone, Debug)]
pub struct Reference(Device);

impl Reference {
    pub fn new(device: &Device) -> Self {
        Self(device.clone())
    }
}

impl Backend for Reference {
    fn device(&self) -> &Device {
        &self.0
    }
}

/// The gradients of the inputs of `operation` by the gradient `dy` of its result.
fn vjp<const N: usize>(
    inputs: [&Tensor; N],
    dy: &Tensor,
    operation: impl FnOnce([&Tensor; N]) -> Result<Tensor>,
) -> Result<[Tensor; N]> {
    let mut variables = Vec::with_capacity(N);
    for input in inputs {
        variables.push(Var::from_tensor(&input.detach())?);
    }
    let y = operation(std::array::from_fn(|input| variables[input].as_tensor()))?;
    let gradients = (y * dy)?.sum_all()?.backward()?;
    let of = |variable: &Var| match gradients.get(variable) {
        Some(gradient) => gradient.contiguous(),
        None => variable.zeros_like(),
    };
    let found: Vec<Tensor> = variables.iter().map(of).collect::<Result<_>>()?;
    found
        .try_into()
        .map_err(|_| candle_core::Error::msg("every input has a gradient"))
}

/// The gradient of the only input of `operation`.
fn vjp1(
    input: &Tensor,
    dy: &Tensor,
    operation: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let [gradient] = vjp([input], dy, |[x]| operation(x))?;
    Ok(gradient)
}

/// The gradient of the input of a linear operation, of this shape: it does not depend on the input.
fn vjp_linear(
    shape: impl Into<candle_core::Shape>,
    dy: &Tensor,
    operation: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let input = Tensor::zeros(shape, dy.dtype(), dy.device())?;
    vjp1(&input, dy, operation)
}

/// A sum that may not have begun yet, and one more contribution.
fn sum_of(sum: Option<Tensor>, more: Tensor) -> Result<Tensor> {
    match sum {
        Some(sum) => sum + more,
        None => Ok(more),
    }
}
