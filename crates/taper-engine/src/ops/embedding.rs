use candle_core::Tensor;
use taper_kernels as kernels;

use crate::{
    Result,
    param::Param,
    tape::{Path, Tape, Value, slice},
};

/// The sum of rows looked up in several tables, `[tokens, width]`; `ids` has one list of `tokens` row numbers a table.
pub(crate) fn embedding(tape: &Tape, tables: &[&Param], ids: Vec<Vec<u32>>) -> Result<Value> {
    let (_, width) = tables[0].tensor.dims2()?;
    let tokens = ids[0].len();
    if tape.path == Path::Composed {
        return composed(tables, &ids);
    }
    let mut y = vec![0.0; tokens * width];
    for (i, (table, ids)) in tables.iter().zip(&ids).enumerate() {
        let table = slice(&table.tensor)?;
        if i == 0 {
            kernels::embedding(&mut y, &table, ids)
        } else {
            kernels::embedding_add(&mut y, &table, ids)
        }
    }
    if !tape.records(&[], tables) {
        return Tape::constant(y, (tokens, width));
    }
    let trained: Vec<_> = tables
        .iter()
        .zip(ids)
        .filter_map(|(table, ids)| Some((table.id?, ids)))
        .collect();
    tape.record(y, (tokens, width), move |flow, dy| {
        for (id, ids) in &trained {
            kernels::embedding_backward(flow.param(*id), &dy, ids);
        }
        Ok(())
    })
}

fn composed(tables: &[&Param], ids: &[Vec<u32>]) -> Result<Value> {
    let look_up = |table: &Param, ids: &[u32]| {
        let index = Tensor::from_slice(ids, ids.len(), table.tensor.device())?;
        table.tensor.index_select(&index, 0)
    };
    let mut sum = look_up(tables[0], &ids[0])?;
    for (table, ids) in tables.iter().zip(ids).skip(1) {
        sum = (sum + look_up(table, ids)?)?;
    }
    Ok(Value::constant(sum))
}
