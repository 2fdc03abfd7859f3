use candle_core::Result;

use super::Dropout;
use crate::tape::{Tape, Value};

/// `residual + dropout(branch)`, the end of a pre-norm block, in the branch's own memory.
///
/// The branch's values are used up: nothing else may hold its tensor.
pub fn add(tape: &Tape, residual: Value, branch: Value, dropout: Dropout) -> Result<Value> {
    let recorded = tape.records(&[&residual, &branch], false);
    let (residual_node, branch_node) = (residual.node(), branch.node());
    let sum = tape
        .backend()
        .add(&residual.tensor, branch.tensor, dropout)?;
    if !recorded {
        return Ok(Value::constant(sum));
    }
    Ok(tape.record(sum, move |sink, dy| {
        sink.add_both(residual_node, branch_node, dropout, dy)
    }))
}
