use candle_core::{DType, Result, Tensor};

use super::vjp_linear;

fn look_up(table: &Tensor, ids: &[u32]) -> Result<Tensor> {
    let index = Tensor::from_slice(ids, ids.len(), table.device())?;
    table.index_select(&index, 0)?.to_dtype(DType::F32)
}

pub(crate) fn embedding(table: &Tensor, ids: &[u32]) -> Result<Tensor> {
    look_up(table, ids)
}

pub(crate) fn add_embedding(x: Tensor, table: &Tensor, ids: &[u32]) -> Result<Tensor> {
    x + look_up(table, ids)?
}

pub(crate) fn embedding_backward(dtable: Tensor, dy: &Tensor, ids: &[u32]) -> Result<Tensor> {
    let more = vjp_linear(dtable.shape(), dy, |table| look_up(table, ids))?;
    dtable + more
}
