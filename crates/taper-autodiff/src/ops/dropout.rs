use candle_core::Result;

use super::Dropout;
use crate::tape::{Tape, Value};

/// Zeroes elements at random and scales the others up by `1/(1-p)`.
pub fn dropout(tape: &Tape, x: Value, dropout: Dropout) -> Result<Value> {
    if dropout.is_off() {
        return Ok(x);
    }
    let y = tape.backend().dropout(&x.tensor, dropout)?;
    if !tape.records(&[&x], false) {
        return Ok(Value::constant(y));
    }
    let x = x.node();
    Ok(tape.record(y, move |sink, dy| {
        let dx = sink.backend.dropout_in_place(dy, dropout)?;
        sink.add(x, dx)
    }))
}
