//! What moves rows and columns and computes nothing.

use candle_core::{Result, Tensor};
use taper_kernels as kernels;

use super::{
    Columns, accumulate,
    storage::{in_place, slice, tensor},
};

pub(super) fn prepend(x: &Tensor, prompt: &Tensor, offsets: &[usize]) -> Result<Tensor> {
    let (virtual_tokens, width) = prompt.dims2()?;
    let rows = x.dims2()?.0 + virtual_tokens * (offsets.len() - 1);
    let mut y = Vec::with_capacity(rows * width);
    let (tokens, prompt) = (slice(x)?, slice(prompt)?);
    for range in offsets.windows(2) {
        y.extend_from_slice(&prompt);
        y.extend_from_slice(&tokens[range[0] * width..range[1] * width]);
    }
    tensor(y, (rows, width))
}

pub(super) fn prepend_backward(
    dy: &Tensor,
    virtual_tokens: usize,
    offsets: &[usize],
) -> Result<Tensor> {
    let (rows, width) = dy.dims2()?;
    let rows = rows - virtual_tokens * (offsets.len() - 1);
    let mut dx = Vec::with_capacity(rows * width);
    let dy = slice(dy)?;
    for (sequence, range) in offsets.windows(2).enumerate() {
        let before = (sequence + 1) * virtual_tokens;
        dx.extend_from_slice(&dy[(before + range[0]) * width..(before + range[1]) * width]);
    }
    tensor(dx, (rows, width))
}

pub(super) fn prepend_backward_prompt(
    dprompt: Tensor,
    dy: &Tensor,
    offsets: &[usize],
) -> Result<Tensor> {
    let (virtual_tokens, width) = dprompt.dims2()?;
    let dy = slice(dy)?;
    in_place(dprompt, |dprompt| {
        for (sequence, start) in offsets[..offsets.len() - 1].iter().enumerate() {
            let first = (start + sequence * virtual_tokens) * width;
            kernels::add_assign(dprompt, &dy[first..first + virtual_tokens * width]);
        }
    })
}

pub(super) fn select_rows_backward(dy: &Tensor, rows: &[u32], total: usize) -> Result<Tensor> {
    let (_, width) = dy.dims2()?;
    let mut dx = vec![0.0; total * width];
    for (row, gradient) in rows.iter().zip(slice(dy)?.chunks_exact(width)) {
        dx[*row as usize * width..][..width].copy_from_slice(gradient);
    }
    tensor(dx, (total, width))
}

pub(super) fn select_columns(x: &Tensor, columns: Columns) -> Result<Tensor> {
    let Columns {
        start,
        width,
        whole,
    } = columns;
    let (rows, _) = x.dims2()?;
    let y: Vec<f32> = slice(x)?
        .chunks_exact(whole)
        .flat_map(|row| &row[start..start + width])
        .copied()
        .collect();
    tensor(y, (rows, width))
}

pub(super) fn select_columns_backward(
    dx: Option<Tensor>,
    dy: &Tensor,
    columns: Columns,
) -> Result<Tensor> {
    let Columns {
        start,
        width,
        whole,
    } = columns;
    let (rows, _) = dy.dims2()?;
    let dy = slice(dy)?;
    accumulate(dx, (rows, whole), |dx, _| {
        for (row, gradient) in dx.chunks_exact_mut(whole).zip(dy.chunks_exact(width)) {
            row[start..start + width]
                .iter_mut()
                .zip(gradient)
                .for_each(|(d, g)| *d += g);
        }
    })
}
