use candle_core::{DType, Tensor};
use taper_kernels as kernels;

use crate::{
    Result,
    param::Param,
    tape::{Path, Tape, Value, take, with_weight},
};

/// Rows looked up in a table, `[tokens, width]`.
pub(crate) fn embedding(tape: &Tape, table: &Param, ids: Vec<u32>) -> Result<Value> {
    if tape.path == Path::Composed {
        return Ok(Value::constant(look_up(table, &ids)?));
    }
    if let Some(counter) = &tape.counter {
        return counter.embedding(tape, table, ids.len());
    }
    let (_, width) = table.tensor.dims2()?;
    let shape = (ids.len(), width);
    let mut y = vec![0.0; ids.len() * width];
    with_weight(&table.tensor, |table| {
        kernels::embedding(&mut y, table, &ids)
    })?;
    match tape.slot(table) {
        None => Tape::constant(y, shape),
        Some(id) => tape.record(y, shape, move |flow, dy| {
            kernels::embedding_backward(flow.param(id), &dy, &ids);
            Ok(())
        }),
    }
}

/// Adds rows looked up in a table to `x`, in its own memory: nothing else may hold its tensor.
pub(crate) fn add_embedding(tape: &Tape, x: Value, table: &Param, ids: Vec<u32>) -> Result<Value> {
    if tape.path == Path::Composed {
        return Ok(Value::constant((&x.tensor + look_up(table, &ids)?)?));
    }
    if let Some(counter) = &tape.counter {
        return counter.add_embedding(tape, &x, table);
    }
    let shape = x.tensor.shape().clone();
    let mut y = take(&x)?;
    with_weight(&table.tensor, |table| {
        kernels::embedding_add(&mut y, table, &ids)
    })?;
    let id = tape.slot(table);
    if !tape.records(&[&x], id.is_some()) {
        return Tape::constant(y, shape);
    }
    let x = x.place();
    tape.record(y, shape, move |flow, dy| {
        if let Some(id) = id {
            kernels::embedding_backward(flow.param(id), &dy, &ids);
        }
        flow.add(x, dy);
        Ok(())
    })
}

fn look_up(table: &Param, ids: &[u32]) -> Result<Tensor> {
    let index = Tensor::from_slice(ids, ids.len(), table.tensor.device())?;
    Ok(table.tensor.index_select(&index, 0)?.to_dtype(DType::F32)?)
}
