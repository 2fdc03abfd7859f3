//! The weights of a model as operations take them, and where their gradients gather.

use candle_core::{CpuStorage, InplaceOp1, Layout, Tensor, Var};

use crate::{Result, parameters::Parameters};

/// Names a trained parameter: its place in [`Parameters`].
pub(crate) type ParamId = usize;

/// One weight of a model, frozen or trained.
#[derive(Clone, Debug)]
pub(crate) struct Param {
    pub(crate) tensor: Tensor,
    /// The place of its gradient; `None` when it is frozen.
    pub(crate) id: Option<ParamId>,
}

impl Param {
    pub(crate) fn frozen(tensor: Tensor) -> Self {
        Self { tensor, id: None }
    }
}

/// Gradients of the trained parameters, summed over micro-batches, on the host. A buffer exists from the first contribution until
/// the update: while it does not, the activations have that memory.
pub(crate) struct Gradients {
    buffers: Vec<Option<Vec<f32>>>,
    sizes: Vec<usize>,
}

impl Gradients {
    pub(crate) fn zeros(parameters: &Parameters) -> Self {
        let sizes = parameters.list.iter().map(|p| p.var.elem_count());
        Self {
            buffers: parameters.list.iter().map(|_| None).collect(),
            sizes: sizes.collect(),
        }
    }

    /// The gradient so far; empty where nothing has come.
    pub(crate) fn get(&self, id: ParamId) -> &[f32] {
        self.buffers[id].as_deref().unwrap_or_default()
    }

    /// The gradient so far, to be added to.
    pub(crate) fn get_mut(&mut self, id: ParamId) -> &mut [f32] {
        self.buffers[id].get_or_insert_with(|| vec![0.0; self.sizes[id]])
    }

    /// Adds to a gradient; the first one is moved, not copied.
    pub(crate) fn add(&mut self, id: ParamId, gradient: Vec<f32>) {
        match &mut self.buffers[id] {
            Some(sum) => taper_kernels::add_assign(sum, &gradient),
            empty => *empty = Some(gradient),
        }
    }

    /// Takes a gradient out, whose buffer is then no longer held; zeros where nothing has come.
    pub(crate) fn take(&mut self, id: ParamId) -> Vec<f32> {
        self.buffers[id]
            .take()
            .unwrap_or_else(|| vec![0.0; self.sizes[id]])
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[f32]> {
        (0..self.buffers.len()).map(|id| self.get(id))
    }
}

/// Hands the values of a variable to `change`, in place on the CPU, by way of the host elsewhere.
pub(crate) fn update(var: &Var, change: impl FnOnce(&mut [f32])) -> Result<()> {
    if var.device().is_cpu() {
        return Ok(var
            .as_tensor()
            .inplace_op1(&Change(std::sync::Mutex::new(Some(change))))?);
    }
    let mut values = var.flatten_all()?.to_vec1()?;
    change(&mut values);
    Ok(var.set(&Tensor::from_vec(values, var.shape(), var.device())?)?)
}

struct Change<F>(std::sync::Mutex<Option<F>>);

impl<F: FnOnce(&mut [f32])> InplaceOp1 for Change<F> {
    fn name(&self) -> &'static str {
        "update"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let CpuStorage::F32(values) = storage else {
            candle_core::bail!("a trained parameter must be f32")
        };
        let (start, end) = layout
            .contiguous_offsets()
            .ok_or_else(|| candle_core::Error::msg("a trained parameter must be contiguous"))?;
        let change = self.0.lock().ok().and_then(|mut slot| slot.take());
        if let Some(change) = change {
            change(&mut values[start..end]);
        }
        Ok(())
    }
}
