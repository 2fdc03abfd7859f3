use std::sync::Arc;

use candle_core::Tensor;
use taper_kernels as kernels;

use crate::{
    Result,
    tape::{Path, Tape, Value, take},
};

/// Cosines and sines of the angles of each position, both `[positions, head_dim / 2]`.
#[derive(Debug)]
pub(crate) struct RopeAngles {
    cos: Vec<f32>,
    sin: Vec<f32>,
    head_dim: usize,
}

impl RopeAngles {
    /// The angles of `positions` positions for these frequencies, one a pair of elements.
    pub(crate) fn new(frequencies: &[f64], positions: usize) -> Self {
        let angle = |place: usize, frequency: &f64| place as f64 * frequency;
        let all =
            || (0..positions).flat_map(|place| frequencies.iter().map(move |f| angle(place, f)));
        Self {
            cos: all().map(|a| a.cos() as f32).collect(),
            sin: all().map(|a| a.sin() as f32).collect(),
            head_dim: 2 * frequencies.len(),
        }
    }

    fn kernel(&self) -> kernels::RopeTable<'_> {
        kernels::RopeTable {
            cos: &self.cos,
            sin: &self.sin,
        }
    }

    /// The rows of a table for these positions, `[tokens, 1, head_dim / 2]`.
    fn rows(&self, table: &[f32], positions: &[u32], like: &Tensor) -> Result<Tensor> {
        let half = self.head_dim / 2;
        let rows: Vec<f32> = positions
            .iter()
            .flat_map(|p| &table[*p as usize * half..][..half])
            .copied()
            .collect();
        Ok(Tensor::from_vec(
            rows,
            (positions.len(), 1, half),
            like.device(),
        )?)
    }
}

/// Turns every head of `x`, `[tokens, heads·head_dim]`, by the angles of its token's position, in its own memory: nothing else may
/// hold its tensor.
pub(crate) fn rope(
    tape: &Tape,
    x: Value,
    angles: &Arc<RopeAngles>,
    positions: &[u32],
) -> Result<Value> {
    let (tokens, width) = x.tensor.dims2()?;
    let (dim, heads) = (angles.head_dim, width / angles.head_dim);
    if tape.path == Path::Composed {
        let (cos, sin) = (
            angles.rows(&angles.cos, positions, &x.tensor)?,
            angles.rows(&angles.sin, positions, &x.tensor)?,
        );
        let split = x.tensor.reshape((tokens, heads, dim))?;
        let (low, high) = (
            split.narrow(2, 0, dim / 2)?,
            split.narrow(2, dim / 2, dim / 2)?,
        );
        let turned_low = (low.broadcast_mul(&cos)? - high.broadcast_mul(&sin)?)?;
        let turned_high = (high.broadcast_mul(&cos)? + low.broadcast_mul(&sin)?)?;
        return Ok(Value::constant(
            Tensor::cat(&[turned_low, turned_high], 2)?.reshape((tokens, width))?,
        ));
    }
    if let Some(counter) = &tape.counter {
        return counter.in_place(tape, &[&x]);
    }
    let shape = x.tensor.shape().clone();
    let mut y = take(&x)?;
    kernels::rope(&mut y, &angles.kernel(), positions, heads, dim);
    if !tape.records(&[&x], false) {
        return Tape::constant(y, shape);
    }
    let (angles, positions, x) = (angles.clone(), positions.to_vec(), x.place());
    tape.record(y, shape, move |flow, mut dy| {
        kernels::rope_backward(&mut dy, &angles.kernel(), &positions, heads, dim);
        flow.add(x, dy);
        Ok(())
    })
}
