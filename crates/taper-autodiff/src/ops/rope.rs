use std::sync::Arc;

use candle_core::Result;

use super::RopeAngles;
use crate::tape::{Tape, Value};

/// Turns every head of `x`, `[tokens, heads·head_dim]`, by the angles of its token's position, in its own memory: nothing else may
/// hold its tensor.
pub fn rope(tape: &Tape, x: Value, angles: &Arc<RopeAngles>, positions: &[u32]) -> Result<Value> {
    let (recorded, node) = (tape.records(&[&x], false), x.node());
    let y = tape.backend().rope(x.tensor, angles, positions)?;
    if !recorded {
        return Ok(Value::constant(y));
    }
    let (angles, positions) = (angles.clone(), positions.to_vec());
    Ok(tape.record(y, move |sink, dy| {
        let dx = sink.backend.rope_backward(dy, &angles, &positions)?;
        sink.add(node, dx)
    }))
}
