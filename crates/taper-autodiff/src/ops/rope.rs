use std::sync::Arc;

use candle_core::{Device, Result, Tensor};

use crate::tape::{Tape, Value};

/// Cosines and sines of the angles of each position, both `[positions, head_dim / 2]`, on the device.
#[derive(Debug)]
pub struct RopeAngles {
    pub(crate) cos: Tensor,
    pub(crate) sin: Tensor,
    head_dim: usize,
}

impl RopeAngles {
    /// The angles of `positions` positions for these frequencies, one a pair of elements.
    pub fn new(frequencies: &[f64], positions: usize, device: &Device) -> Result<Self> {
        let angle = |place: usize, frequency: &f64| place as f64 * frequency;
        let table = |function: fn(f64) -> f64| {
            let values: Vec<f32> = (0..positions)
                .flat_map(|place| frequencies.iter().map(move |f| angle(place, f)))
                .map(|angle| function(angle) as f32)
                .collect();
            Tensor::from_vec(values, (positions, frequencies.len()), device)
        };
        Ok(Self {
            cos: table(f64::cos)?,
            sin: table(f64::sin)?,
            head_dim: 2 * frequencies.len(),
        })
    }

    pub(crate) fn head_dim(&self) -> usize {
        self.head_dim
    }
}

/// Turns every head of `x`, `[tokens, heads·head_dim]`, by the angles of its token's position, in its own memory: nothing else may
/// hold its tensor.
pub fn rope(tape: &Tape, x: Value, angles: &Arc<RopeAngles>, positions: &[u32]) -> Result<Value> {
    let (recorded, place) = (tape.records(&[&x], false), x.place());
    let y = tape.backend().rope(x.tensor, angles, positions)?;
    if !recorded {
        return Ok(Value::constant(y));
    }
    let (angles, positions) = (angles.clone(), positions.to_vec());
    Ok(tape.record(y, move |sink, dy| {
        let dx = sink.backend.rope_backward(dy, &angles, &positions)?;
        sink.add(place, dx)
    }))
}
