//! Operations that move rows and columns and compute nothing.

use candle_core::Result;

use crate::{
    backend::Columns,
    param::Param,
    tape::{Tape, Value},
};

/// Picks rows of a matrix by number, each at most once: `[rows, width]` becomes `[picked, width]`.
pub fn select_rows(tape: &Tape, x: &Value, rows: Vec<u32>) -> Result<Value> {
    let (total, _) = x.tensor.dims2()?;
    let y = tape.backend().select_rows(&x.tensor, &rows)?;
    if !tape.records(&[x], false) {
        return Ok(Value::constant(y));
    }
    let x = x.node();
    Ok(tape.record(y, move |sink, dy| {
        let dx = sink.backend.select_rows_backward(&dy, &rows, total)?;
        sink.add(x, dx)
    }))
}

/// Puts the rows of `prompt` in front of every sequence of `x`; `offsets` says where sequences begin in `x`.
pub fn prepend(tape: &Tape, x: &Value, prompt: &Param, offsets: &[usize]) -> Result<Value> {
    let (virtual_tokens, _) = prompt.tensor.dims2()?;
    let y = tape.backend().prepend(&x.tensor, &prompt.tensor, offsets)?;
    let id = tape.slot(prompt);
    if !tape.records(&[x], id.is_some()) {
        return Ok(Value::constant(y));
    }
    let (x, offsets) = (x.node(), offsets.to_vec());
    Ok(tape.record(y, move |sink, dy| {
        let backend = sink.backend;
        if let Some(id) = id {
            sink.param(id, |dprompt| {
                backend.prepend_backward_prompt(dprompt, &dy, &offsets)
            })?;
        }
        if x.needs_gradient() {
            let dx = backend.prepend_backward(&dy, virtual_tokens, &offsets)?;
            sink.add(x, dx)?;
        }
        Ok(())
    }))
}

/// Cuts a matrix into `N` of equal width, side by side: the fused projection of GPT-2 into queries, keys and values.
pub fn split_columns<const N: usize>(tape: &Tape, x: &Value) -> Result<[Value; N]> {
    let (_, whole) = x.tensor.dims2()?;
    let width = whole / N;
    let part = |part| Columns {
        start: part * width,
        width,
        whole,
    };
    let parts: Vec<Value> = (0..N)
        .map(|number| columns_of(tape, x, part(number)))
        .collect::<Result<_>>()?;
    parts
        .try_into()
        .map_err(|_| candle_core::Error::msg("a split gives its parts"))
}

fn columns_of(tape: &Tape, x: &Value, columns: Columns) -> Result<Value> {
    let y = tape.backend().select_columns(&x.tensor, columns)?;
    if !tape.records(&[x], false) {
        return Ok(Value::constant(y));
    }
    let x = x.node();
    Ok(tape.record(y, move |sink, dy| {
        let backend = sink.backend;
        sink.accumulate(x, |dx| backend.select_columns_backward(dx, &dy, columns))
    }))
}
