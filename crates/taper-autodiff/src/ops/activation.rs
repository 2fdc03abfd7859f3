use candle_core::Result;

use super::Activation;
use crate::tape::{Tape, Value};

/// Applies a function to every element. Keeps its input; the result is recomputed where a backward needs it.
pub fn activation(tape: &Tape, x: Value, function: Activation) -> Result<Value> {
    let y = tape.backend().activation(&x.tensor, function)?;
    if !tape.records(&[&x], false) {
        return Ok(Value::constant(y));
    }
    let (input, node) = (x.tensor.clone(), x.node());
    let value = tape.record(y, move |sink, dy| {
        let dx = sink.backend.activation_backward(&dy, &x.tensor, function)?;
        sink.add(node, dx)
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
        sink.add(gate.node(), dgate)?;
        sink.add(up.node(), dup)
    });
    Ok(value.recomputed_by(move |backend| backend.silu_mul(&inputs[0], &inputs[1])))
}
