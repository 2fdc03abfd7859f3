use candle_core::{Result, Shape, Tensor};

use crate::Backend;

/// Names a trained parameter: its place among those of its model.
pub type ParamId = usize;

/// One weight of a model, frozen or trained.
#[derive(Clone, Debug)]
pub struct Param {
    pub tensor: Tensor,
    /// The place of its gradient; `None` when it is frozen.
    pub id: Option<ParamId>,
}

impl Param {
    pub fn frozen(tensor: Tensor) -> Self {
        Self { tensor, id: None }
    }
}

/// Gradients of the trained parameters, summed over micro-batches, on the backend's device. A buffer exists from the first contribution
/// until the update: while it does not, the activations have that memory.
pub struct Gradients {
    buffers: Vec<Option<Tensor>>,
    shapes: Vec<Shape>,
}

impl Gradients {
    /// No gradients yet of parameters of these shapes, in the order of their ids.
    pub fn new(shapes: impl IntoIterator<Item = Shape>) -> Self {
        let shapes: Vec<Shape> = shapes.into_iter().collect();
        Self {
            buffers: shapes.iter().map(|_| None).collect(),
            shapes,
        }
    }

    /// The gradient so far; `None` where nothing has come.
    pub fn get(&self, id: ParamId) -> Option<&Tensor> {
        self.buffers[id].as_ref()
    }

    /// Adds to a gradient; the first one is moved, not copied.
    pub(crate) fn add(
        &mut self,
        backend: &dyn Backend,
        id: ParamId,
        gradient: Tensor,
    ) -> Result<()> {
        let sum = match self.buffers[id].take() {
            Some(sum) => backend.add_assign(sum, &gradient)?,
            None => gradient,
        };
        self.put(id, sum);
        Ok(())
    }

    /// Takes a gradient out, whose buffer is then no longer held; zeros where nothing has come.
    pub fn take(&mut self, backend: &dyn Backend, id: ParamId) -> Result<Tensor> {
        match self.buffers[id].take() {
            Some(sum) => Ok(sum),
            None => backend.zeros(&self.shapes[id]),
        }
    }

    pub(crate) fn put(&mut self, id: ParamId, sum: Tensor) {
        self.buffers[id] = Some(sum);
    }

    /// The sum of the squares of each parameter's gradient, 0 where nothing has come.
    pub fn sums_of_squares(&self, backend: &dyn Backend) -> Result<Vec<f64>> {
        let there: Vec<&Tensor> = self.buffers.iter().flatten().collect();
        let mut sums = backend.sums_of_squares(&there)?.into_iter();
        let of = |buffer: &Option<Tensor>| match buffer {
            Some(_) => sums.next().unwrap_or(f64::NAN),
            None => 0.0,
        };
        Ok(self.buffers.iter().map(of).collect())
    }
}

/// Overwrites the values of a parameter, where all who hold its tensor see it.
///
/// # Errors
/// Another number of values.
pub fn assign(target: &Tensor, values: Vec<f32>) -> Result<()> {
    let values = Tensor::from_vec(values, target.shape(), target.device())?;
    target.slice_set(&values, 0, 0)
}
