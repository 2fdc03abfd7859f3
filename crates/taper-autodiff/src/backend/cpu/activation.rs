use taper_kernels as kernels;

use crate::backend::Activation;

pub(super) fn forward(function: Activation, y: &mut [f32], x: &[f32]) {
    match function {
        Activation::Gelu => kernels::gelu(y, x),
        Activation::GeluTanh => kernels::gelu_tanh(y, x),
        Activation::Relu => kernels::relu(y, x),
        Activation::Tanh => kernels::tanh(y, x),
    }
}

/// The gradient of the input; `x` is the input, and recomputing `tanh` costs less than keeping its output too.
pub(super) fn backward(function: Activation, dx: &mut [f32], dy: &[f32], x: &[f32]) {
    match function {
        Activation::Gelu => kernels::gelu_backward(dx, dy, x),
        Activation::GeluTanh => kernels::gelu_tanh_backward(dx, dy, x),
        Activation::Relu => kernels::relu_backward(dx, dy, x),
        Activation::Tanh => {
            let mut y = vec![0.0; x.len()];
            kernels::tanh(&mut y, x);
            kernels::tanh_backward(dx, dy, &y);
        }
    }
}
