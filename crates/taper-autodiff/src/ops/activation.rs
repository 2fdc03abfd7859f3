use candle_core::Result;

use crate::tape::{Tape, Value};

/// A function of one number, applied to every element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x·Φ(x)`.
    Gelu,
    /// GELU by the hyperbolic tangent, as GPT-2 has it.
    GeluTanh,
    Relu,
    Tanh,
}

/// Applies a function to every element; keeps its input.
/// The result is recomputed where a backward needs it.
pub fn activation(tape: &Tape, x: Value, function: Activation) -> Result<Value> {
    let y = tape.backend().activation(&x.tensor, function)?;
    if !tape.records(&[&x], false) {
        return Ok(Value::constant(y));
    }
    let (input, place) = (x.tensor.clone(), x.place());
    let value = tape.record(y, move |sink, dy| {
        let dx = sink.backend.activation_backward(&dy, &x.tensor, function)?;
        sink.add(place, dx)
    });
    Ok(value.recomputed_by(move |backend| backend.activation(&input, function)))
}

/// `silu(gate)·up`, the gated unit of Llama-like models; keeps both inputs, from which the result is recomputed where a backward needs
/// it.
pub fn silu_mul(tape: &Tape, gate: Value, up: Value) -> Result<Value> {
    let y = tape.backend().silu_mul(&gate.tensor, &up.tensor)?;
    if !tape.records(&[&gate, &up], false) {
        return Ok(Value::constant(y));
    }
    let inputs = [gate.tensor.clone(), up.tensor.clone()];
    let value = tape.record(y, move |sink, dy| {
        let [dgate, dup] = sink
            .backend
            .silu_mul_backward(&dy, &gate.tensor, &up.tensor)?;
        sink.add(gate.place(), dgate)?;
        sink.add(up.place(), dup)
    });
    Ok(value.recomputed_by(move |backend| backend.silu_mul(&inputs[0], &inputs[1])))
}
