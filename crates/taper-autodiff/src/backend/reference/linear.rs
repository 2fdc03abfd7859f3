use candle_core::{DType, Result, Tensor};
use taper_kernels::Layout;

use super::{
    super::{Matrix, Weight},
    sum_of, vjp_linear,
};

fn wide(matrix: Matrix<'_>) -> Result<Tensor> {
    let tensor = matrix.tensor.to_dtype(DType::F32)?;
    if matrix.transposed {
        tensor.t()?.contiguous()
    } else {
        Ok(tensor)
    }
}

pub(crate) fn matmul(
    sum: Option<Tensor>,
    alpha: f32,
    a: Matrix<'_>,
    b: Matrix<'_>,
) -> Result<Tensor> {
    let product = wide(a)?.matmul(&wide(b)?)?;
    sum_of(sum, (product * f64::from(alpha))?)
}

fn apply(x: &Tensor, weight: &Tensor, layout: Layout) -> Result<Tensor> {
    match layout {
        Layout::OutIn => x.matmul(&weight.t()?),
        Layout::InOut => x.matmul(weight),
    }
}

pub(crate) fn linear(x: &Tensor, weight: Weight<'_>, bias: Option<&Tensor>) -> Result<Tensor> {
    let y = apply(x, &weight.tensor.to_dtype(DType::F32)?, weight.layout)?;
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

pub(crate) fn linear_backward_input(
    dx: Option<Tensor>,
    dy: &Tensor,
    weight: Weight<'_>,
) -> Result<Tensor> {
    let ((rows, _), (inputs, _)) = (dy.dims2()?, weight.sizes()?);
    let more = vjp_linear((rows, inputs), dy, |x| linear(x, weight, None))?;
    sum_of(dx, more)
}

pub(crate) fn linear_backward_weight(
    dw: Tensor,
    dy: &Tensor,
    x: &Tensor,
    layout: Layout,
) -> Result<Tensor> {
    let more = vjp_linear(dw.shape(), dy, |weight| apply(x, weight, layout))?;
    dw + more
}

pub(crate) fn linear_backward_bias(db: Tensor, dy: &Tensor) -> Result<Tensor> {
    let more = vjp_linear(db.shape(), dy, |bias| bias.broadcast_as(dy.shape()))?;
    db + more
}
