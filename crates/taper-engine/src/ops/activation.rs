use taper_kernels as kernels;

use crate::{
    Result,
    tape::{Path, Tape, Value, slice},
};

/// A function of one number, applied to every element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    /// `x·Φ(x)`.
    Gelu,
    /// GELU by the hyperbolic tangent, as GPT-2 has it.
    GeluTanh,
    Relu,
    Tanh,
}

impl Activation {
    fn forward(self, y: &mut [f32], x: &[f32]) {
        match self {
            Self::Gelu => kernels::gelu(y, x),
            Self::GeluTanh => kernels::gelu_tanh(y, x),
            Self::Relu => kernels::relu(y, x),
            Self::Tanh => kernels::tanh(y, x),
        }
    }

    /// The gradient of the input; `x` is the input, and recomputing `tanh` costs less than keeping its output too.
    fn backward(self, dx: &mut [f32], dy: &[f32], x: &[f32]) {
        match self {
            Self::Gelu => kernels::gelu_backward(dx, dy, x),
            Self::GeluTanh => kernels::gelu_tanh_backward(dx, dy, x),
            Self::Relu => kernels::relu_backward(dx, dy, x),
            Self::Tanh => {
                let mut y = vec![0.0; x.len()];
                kernels::tanh(&mut y, x);
                kernels::tanh_backward(dx, dy, &y);
            }
        }
    }

    fn composed(self, x: &candle_core::Tensor) -> candle_core::Result<candle_core::Tensor> {
        match self {
            Self::Gelu => x.gelu_erf(),
            Self::GeluTanh => x.gelu(),
            Self::Relu => x.relu(),
            Self::Tanh => x.tanh(),
        }
    }
}

/// Applies a function to every element; keeps its input.
/// The result is made again where a backward needs it.
pub(crate) fn activation(tape: &Tape, x: Value, function: Activation) -> Result<Value> {
    if tape.path == Path::Composed {
        return Ok(Value::constant(function.composed(&x.tensor)?));
    }
    if let Some(counter) = &tape.counter {
        return counter.elementwise(tape, &[&x]);
    }
    let mut y = vec![0.0; x.tensor.elem_count()];
    function.forward(&mut y, &slice(&x.tensor)?);
    let shape = x.tensor.shape().clone();
    if !tape.records(&[&x], false) {
        return Tape::constant(y, shape);
    }
    let (input, place) = (x.tensor.clone(), x.place());
    let value = tape.record(y, shape, move |flow, dy| {
        let mut dx = vec![0.0; dy.len()];
        function.backward(&mut dx, &dy, &slice(&x.tensor)?);
        flow.add(place, dx);
        Ok(())
    })?;
    Ok(value.made_by(move || {
        let mut y = vec![0.0; input.elem_count()];
        function.forward(&mut y, &slice(&input)?);
        Ok(y)
    }))
}

/// `silu(gate)·up`, the gated unit of Llama-like models; keeps both inputs, from which the result is made again where a backward
/// needs it.
pub(crate) fn silu_mul(tape: &Tape, gate: Value, up: Value) -> Result<Value> {
    if tape.path == Path::Composed {
        return Ok(Value::constant((gate.tensor.silu()? * &up.tensor)?));
    }
    if let Some(counter) = &tape.counter {
        return counter.elementwise(tape, &[&gate, &up]);
    }
    let mut y = vec![0.0; gate.tensor.elem_count()];
    kernels::silu_mul(&mut y, &slice(&gate.tensor)?, &slice(&up.tensor)?);
    let shape = gate.tensor.shape().clone();
    if !tape.records(&[&gate, &up], false) {
        return Tape::constant(y, shape);
    }
    let inputs = [gate.tensor.clone(), up.tensor.clone()];
    let value = tape.record(y, shape, move |flow, dy| {
        let [mut dgate, mut dup] = [(); 2].map(|()| vec![0.0; dy.len()]);
        kernels::silu_mul_backward(
            &mut dgate,
            &mut dup,
            &dy,
            &slice(&gate.tensor)?,
            &slice(&up.tensor)?,
        );
        flow.add(gate.place(), dgate);
        flow.add(up.place(), dup);
        Ok(())
    })?;
    Ok(value.made_by(move || {
        let mut y = vec![0.0; inputs[0].elem_count()];
        kernels::silu_mul(&mut y, &slice(&inputs[0])?, &slice(&inputs[1])?);
        Ok(y)
    }))
}
