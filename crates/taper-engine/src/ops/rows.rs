use candle_core::Tensor;
use taper_kernels as kernels;

use crate::{
    Result,
    tape::{Path, Tape, Value, slice},
};

/// Picks rows of a matrix by number, each at most once: `[rows, width]` becomes `[picked, width]`.
pub(crate) fn select_rows(tape: &Tape, x: &Value, rows: Vec<u32>) -> Result<Value> {
    if tape.path == Path::Composed {
        let index = Tensor::from_slice(&rows, rows.len(), x.tensor.device())?;
        return Ok(Value::constant(x.tensor.index_select(&index, 0)?));
    }
    let (_, width) = x.tensor.dims2()?;
    let mut y = vec![0.0; rows.len() * width];
    kernels::embedding(&mut y, &slice(&x.tensor)?, &rows);
    let shape = (rows.len(), width);
    if !tape.records(&[x], &[]) {
        return Tape::constant(y, shape);
    }
    let x = x.clone();
    tape.record(y, shape, move |flow, dy| {
        let mut dx = vec![0.0; x.tensor.elem_count()];
        for (row, gradient) in rows.iter().zip(dy.chunks_exact(width)) {
            dx[*row as usize * width..][..width].copy_from_slice(gradient);
        }
        flow.add(&x, dx);
        Ok(())
    })
}
