use candle_core::{DType, Device, Result, Shape, Tensor};

use super::{vjp, vjp1};
use crate::backend::{Activation, Dropout};

pub(crate) fn zeros(shape: &Shape, device: &Device) -> Result<Tensor> {
    Tensor::zeros(shape, DType::F32, device)
}

pub(crate) fn copy(x: &Tensor) -> Result<Tensor> {
    x.copy()
}

pub(crate) fn add_assign(sum: Tensor, x: &Tensor) -> Result<Tensor> {
    sum + x
}

pub(crate) fn scale(x: Tensor, factor: &Tensor, divisor: f32) -> Result<Tensor> {
    x.broadcast_mul(&(factor / f64::from(divisor))?)
}

pub(crate) fn activation(x: &Tensor, function: Activation) -> Result<Tensor> {
    match function {
        Activation::Gelu => x.gelu_erf(),
        Activation::GeluTanh => x.gelu(),
        Activation::Relu => x.relu(),
        Activation::Tanh => x.tanh(),
    }
}

pub(crate) fn activation_backward(dy: &Tensor, x: &Tensor, function: Activation) -> Result<Tensor> {
    vjp1(x, dy, |x| activation(x, function))
}

pub(crate) fn silu_mul(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.silu()? * up
}

pub(crate) fn silu_mul_backward(dy: &Tensor, gate: &Tensor, up: &Tensor) -> Result<[Tensor; 2]> {
    vjp([gate, up], dy, |[gate, up]| silu_mul(gate, up))
}

/// Multiplies by the mask that the CPU's kernels use.
pub(crate) fn dropout(x: &Tensor, dropout: Dropout) -> Result<Tensor> {
    let Some(dropout) = dropout.kernel() else {
        return x.copy();
    };
    let mut mask = vec![1.0; x.elem_count()];
    taper_kernels::dropout_in_place(&mut mask, dropout);
    x * Tensor::from_vec(mask, x.shape(), x.device())?
}

pub(crate) fn dropout_in_place(x: Tensor, mask: Dropout) -> Result<Tensor> {
    dropout(&x, mask)
}

pub(crate) fn add(residual: &Tensor, branch: Tensor, mask: Dropout) -> Result<Tensor> {
    residual + dropout(&branch, mask)?
}
