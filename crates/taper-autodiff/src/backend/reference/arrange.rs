use candle_core::{Result, Tensor};

use super::{super::Columns, sum_of, vjp_linear};

pub(crate) fn prepend(x: &Tensor, prompt: &Tensor, offsets: &[usize]) -> Result<Tensor> {
    let mut parts = Vec::new();
    for range in offsets.windows(2) {
        parts.push(prompt.clone());
        parts.push(x.narrow(0, range[0], range[1] - range[0])?);
    }
    Tensor::cat(&parts, 0)
}

pub(crate) fn prepend_backward(
    dy: &Tensor,
    virtual_tokens: usize,
    offsets: &[usize],
) -> Result<Tensor> {
    let (rows, width) = dy.dims2()?;
    let prompt = Tensor::zeros((virtual_tokens, width), dy.dtype(), dy.device())?;
    let rows = rows - virtual_tokens * (offsets.len() - 1);
    vjp_linear((rows, width), dy, |x| prepend(x, &prompt, offsets))
}

pub(crate) fn prepend_backward_prompt(
    dprompt: Tensor,
    dy: &Tensor,
    offsets: &[usize],
) -> Result<Tensor> {
    let ((rows, width), (virtual_tokens, _)) = (dy.dims2()?, dprompt.dims2()?);
    let rows = rows - virtual_tokens * (offsets.len() - 1);
    let x = Tensor::zeros((rows, width), dy.dtype(), dy.device())?;
    let more = vjp_linear(dprompt.shape(), dy, |prompt| prepend(&x, prompt, offsets))?;
    dprompt + more
}

pub(crate) fn select_rows(x: &Tensor, rows: &[u32]) -> Result<Tensor> {
    let index = Tensor::from_slice(rows, rows.len(), x.device())?;
    x.index_select(&index, 0)
}

pub(crate) fn select_rows_backward(dy: &Tensor, rows: &[u32], total: usize) -> Result<Tensor> {
    let (_, width) = dy.dims2()?;
    vjp_linear((total, width), dy, |x| select_rows(x, rows))
}

pub(crate) fn select_columns(x: &Tensor, columns: Columns) -> Result<Tensor> {
    x.narrow(1, columns.start, columns.width)?.contiguous()
}

pub(crate) fn select_columns_backward(
    dx: Option<Tensor>,
    dy: &Tensor,
    columns: Columns,
) -> Result<Tensor> {
    let (rows, _) = dy.dims2()?;
    let more = vjp_linear((rows, columns.whole), dy, |x| select_columns(x, columns))?;
    sum_of(dx, more)
}
