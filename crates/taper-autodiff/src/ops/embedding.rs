use candle_core::Result;

use crate::{
    param::Param,
    tape::{Tape, Value},
};

/// Rows looked up in a table, `[tokens, width]`.
pub fn embedding(tape: &Tape, table: &Param, ids: Vec<u32>) -> Result<Value> {
    let y = tape.backend().embedding(&table.tensor, &ids)?;
    Ok(match tape.slot(table) {
        None => Value::constant(y),
        Some(id) => tape.record(y, move |sink, dy| {
            let backend = sink.backend;
            sink.param(id, |dtable| backend.embedding_backward(dtable, &dy, &ids))
        }),
    })
}

/// Adds rows looked up in a table to `x`, in its own memory: nothing else may hold its tensor.
pub fn add_embedding(tape: &Tape, x: Value, table: &Param, ids: Vec<u32>) -> Result<Value> {
    let id = tape.slot(table);
    let (recorded, node) = (tape.records(&[&x], id.is_some()), x.node());
    let y = tape
        .backend()
        .add_embedding(x.tensor, &table.tensor, &ids)?;
    if !recorded {
        return Ok(Value::constant(y));
    }
    Ok(tape.record(y, move |sink, dy| {
        let backend = sink.backend;
        if let Some(id) = id {
            sink.param(id, |dtable| backend.embedding_backward(dtable, &dy, &ids))?;
        }
        sink.add(node, dy)
    }))
}
