//! Tensors that have shapes and no values, of which those alive are counted.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor, Var};

/// Bytes at the highest moment of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peak {
    pub activations: u64,
    /// Scores over the vocabulary and the like, which a single operation needs.
    pub scratch: u64,
}

impl Peak {
    pub fn total(self) -> u64 {
        self.activations + self.scratch
    }
}

/// A tensor that has a shape and no memory of its own, and is not counted.
pub fn outline(shape: impl Into<Shape>, format: DType) -> Result<Tensor> {
    Tensor::zeros((), format, &Device::Cpu)?.broadcast_as(shape)
}

/// Bytes of a tensor of this shape.
pub(super) fn bytes(shape: &Shape) -> u64 {
    (shape.elem_count() * DType::F32.size_in_bytes()) as u64
}

/// Makes outlines and knows how many bytes those alive would take.
pub(super) struct Outlines {
    /// What outlines are drawn on: candle keeps the operation of what comes from a variable.
    ground: Var,
    moments: Arc<Mutex<Moments>>,
}

#[derive(Default)]
struct Moments {
    alive: u64,
    peak: Peak,
}

impl Outlines {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            ground: Var::zeros((), DType::F32, &Device::Cpu)?,
            moments: Arc::default(),
        })
    }

    /// The outline of a tensor; it counts until its last holder drops it.
    pub(super) fn make(&self, shape: impl Into<Shape>) -> Result<Tensor> {
        let shape = shape.into();
        let drawn = Drawn::new(&self.moments, shape);
        self.rises_by(0);
        self.ground.apply_op1(drawn)
    }

    /// Notes a moment at which an operation needs so many bytes of scratch.
    pub(super) fn rises_by(&self, scratch: u64) {
        let mut moments = lock(&self.moments);
        let moment = Peak {
            activations: moments.alive,
            scratch,
        };
        if moment.total() > moments.peak.total() {
            moments.peak = moment;
        }
    }

    pub(super) fn peak(&self) -> Peak {
        lock(&self.moments).peak
    }
}

/// The operation by which an outline came about. candle drops it with the last tensor that came from it: that is how the death of an
/// outline is heard of.
struct Drawn {
    shape: Shape,
    moments: Arc<Mutex<Moments>>,
}

impl Drawn {
    fn new(moments: &Arc<Mutex<Moments>>, shape: Shape) -> Self {
        lock(moments).alive += bytes(&shape);
        Self {
            shape,
            moments: moments.clone(),
        }
    }
}

impl Drop for Drawn {
    fn drop(&mut self) {
        lock(&self.moments).alive -= bytes(&self.shape);
    }
}

impl CustomOp1 for Drawn {
    fn name(&self) -> &'static str {
        "outline"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(Vec::new()), self.shape.clone()))
    }
}

fn lock(moments: &Mutex<Moments>) -> MutexGuard<'_, Moments> {
    moments.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outlines_count_until_their_last_holder_drops_them() {
        let outlines = Outlines::new().unwrap();
        let alive = || lock(&outlines.moments).alive;
        let first = outlines.make((2, 3)).unwrap();
        let (second, held) = (outlines.make(5).unwrap(), first.clone());
        assert_eq!((first.dims(), alive()), (&[2, 3][..], 24 + 20));
        drop(first);
        assert_eq!(alive(), 24 + 20);
        drop(held);
        assert_eq!(alive(), 20);
        outlines.rises_by(7);
        drop(second);
        let peak = Peak {
            activations: 44,
            scratch: 0,
        };
        assert_eq!((alive(), outlines.peak()), (0, peak));
    }
}
