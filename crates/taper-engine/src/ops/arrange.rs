//! Operations that move rows and columns and compute nothing.

use candle_core::Tensor;
use taper_kernels as kernels;

use crate::{
    Result,
    param::Param,
    tape::{Path, Tape, Value, slice},
};

/// Picks rows of a matrix by number, each at most once: `[rows, width]` becomes `[picked, width]`.
pub(crate) fn select_rows(tape: &Tape, x: &Value, rows: Vec<u32>) -> Result<Value> {
    if tape.path == Path::Composed {
        let index = Tensor::from_slice(&rows, rows.len(), x.tensor.device())?;
        return Ok(Value::constant(x.tensor.index_select(&index, 0)?));
    }
    let (_, width) = x.tensor.dims2()?;
    if let Some(counter) = &tape.counter {
        return counter.arrange(tape, x, (rows.len(), width), None);
    }
    let mut y = vec![0.0; rows.len() * width];
    kernels::embedding(&mut y, &*slice(&x.tensor)?, &rows);
    let shape = (rows.len(), width);
    if !tape.records(&[x], false) {
        return Tape::constant(y, shape);
    }
    let x = x.place();
    tape.record(y, shape, move |flow, dy| {
        let mut dx = vec![0.0; x.elements()];
        for (row, gradient) in rows.iter().zip(dy.chunks_exact(width)) {
            dx[*row as usize * width..][..width].copy_from_slice(gradient);
        }
        flow.add(x, dx);
        Ok(())
    })
}

/// Puts the rows of `prompt` in front of every sequence of `x`; `offsets` says where sequences begin in `x`.
pub(crate) fn prepend(tape: &Tape, x: &Value, prompt: &Param, offsets: &[usize]) -> Result<Value> {
    if tape.path == Path::Composed {
        let mut parts = Vec::new();
        for range in offsets.windows(2) {
            parts.push(prompt.tensor.clone());
            parts.push(x.tensor.narrow(0, range[0], range[1] - range[0])?);
        }
        return Ok(Value::constant(Tensor::cat(&parts, 0)?));
    }
    let (virtual_tokens, width) = prompt.tensor.dims2()?;
    let rows = x.rows()? + virtual_tokens * (offsets.len() - 1);
    if let Some(counter) = &tape.counter {
        return counter.arrange(tape, x, (rows, width), Some(prompt));
    }
    let mut y = Vec::with_capacity(rows * width);
    {
        let (words, prompt) = (slice(&x.tensor)?, slice(&prompt.tensor)?);
        for range in offsets.windows(2) {
            y.extend_from_slice(&prompt);
            y.extend_from_slice(&words[range[0] * width..range[1] * width]);
        }
    }
    let id = tape.slot(prompt);
    if !tape.records(&[x], id.is_some()) {
        return Tape::constant(y, (rows, width));
    }
    let (x, offsets) = (x.place(), offsets.to_vec());
    tape.record(y, (rows, width), move |flow, dy| {
        let mut dx = vec![0.0; if x.needs_gradient() { x.elements() } else { 0 }];
        let mut rest = dy.as_slice();
        for range in offsets.windows(2) {
            let (front, behind) = rest.split_at(virtual_tokens * width);
            let (words, next) = behind.split_at((range[1] - range[0]) * width);
            if let Some(id) = id {
                kernels::add_assign(flow.param(id), front);
            }
            if x.needs_gradient() {
                dx[range[0] * width..range[1] * width].copy_from_slice(words);
            }
            rest = next;
        }
        flow.add(x, dx);
        Ok(())
    })
}

/// Cuts a matrix into `N` of equal width, side by side: the fused projection of GPT-2 into queries, keys and values.
pub(crate) fn split_columns<const N: usize>(tape: &Tape, x: &Value) -> Result<[Value; N]> {
    let (rows, whole) = x.tensor.dims2()?;
    let width = whole / N;
    let parts: Vec<Value> = (0..N)
        .map(|part| column_part(tape, x, part, (rows, width, whole)))
        .collect::<Result<_>>()?;
    parts
        .try_into()
        .map_err(|_| candle_core::Error::msg("a split gives its parts").into())
}

fn column_part(
    tape: &Tape,
    x: &Value,
    part: usize,
    (rows, width, whole): (usize, usize, usize),
) -> Result<Value> {
    if tape.path == Path::Composed {
        return Ok(Value::constant(
            x.tensor.narrow(1, part * width, width)?.contiguous()?,
        ));
    }
    if let Some(counter) = &tape.counter {
        return counter.arrange(tape, x, (rows, width), None);
    }
    let start = part * width;
    let y: Vec<f32> = slice(&x.tensor)?
        .chunks_exact(whole)
        .flat_map(|row| &row[start..start + width])
        .copied()
        .collect();
    if !tape.records(&[x], false) {
        return Tape::constant(y, (rows, width));
    }
    let x = x.place();
    tape.record(y, (rows, width), move |flow, dy| {
        flow.accumulate(x, |dx, _| {
            for (row, gradient) in dx.chunks_exact_mut(whole).zip(dy.chunks_exact(width)) {
                // No other part writes these columns.
                row[start..start + width]
                    .iter_mut()
                    .zip(gradient)
                    .for_each(|(d, g)| *d += g);
            }
        });
        Ok(())
    })
}
