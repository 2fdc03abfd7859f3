use candle_core::{Result, Tensor};

use super::vjp_linear;
use crate::backend::RopeAngles;

fn turn(x: &Tensor, angles: &RopeAngles, positions: &[u32]) -> Result<Tensor> {
    let (tokens, width) = x.dims2()?;
    let dim = angles.head_dim();
    let index = Tensor::from_slice(positions, positions.len(), x.device())?;
    // `[tokens, 1, head_dim / 2]`.
    let rows = |table: &Tensor| table.index_select(&index, 0)?.unsqueeze(1);
    let (cos, sin) = (rows(&angles.cos)?, rows(&angles.sin)?);
    let split = x.reshape((tokens, width / dim, dim))?;
    let (low, high) = (
        split.narrow(2, 0, dim / 2)?,
        split.narrow(2, dim / 2, dim / 2)?,
    );
    let turned_low = (low.broadcast_mul(&cos)? - high.broadcast_mul(&sin)?)?;
    let turned_high = (high.broadcast_mul(&cos)? + low.broadcast_mul(&sin)?)?;
    Tensor::cat(&[turned_low, turned_high], 2)?.reshape((tokens, width))
}

pub(crate) fn rope(x: Tensor, angles: &RopeAngles, positions: &[u32]) -> Result<Tensor> {
    turn(&x, angles, positions)
}

pub(crate) fn rope_backward(dy: Tensor, angles: &RopeAngles, positions: &[u32]) -> Result<Tensor> {
    vjp_linear(dy.shape(), &dy, |x| turn(x, angles, positions))
}
