//! The weights of a model: which are trained, and where their gradients gather.

use candle_core::{CpuStorage, InplaceOp1, Layout, Tensor, Var};

use crate::{Result, methods::Group};

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

/// A parameter that training changes.
pub(crate) struct Trainable {
    /// The name in the exported file.
    pub(crate) name: String,
    pub(crate) var: Var,
    /// Number of its values.
    pub(crate) elements: usize,
    /// Whether weight decay applies: not to biases and norms, as in transformers.
    pub(crate) decays: bool,
    pub(crate) zero: ZeroGradient,
    pub(crate) group: Group,
}

/// When a parameter's gradient is zero by mathematics, so that a zero is no sign of a defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ZeroGradient {
    Never,
    /// LoRA's A, as long as B has not moved from zero.
    BeforeFirstUpdate,
    /// A key bias without rotary positions: softmax ignores a constant added to all keys.
    Always,
}

/// The trained parameters of a model, in a fixed order.
#[derive(Default)]
pub(crate) struct Parameters {
    pub(crate) list: Vec<Trainable>,
    /// Only what there is to train is noted; the variables have no memory.
    outlined: bool,
}

impl Parameters {
    /// Parameters of a model that is never run.
    pub(crate) fn outlined() -> Self {
        Self {
            outlined: true,
            ..Self::default()
        }
    }

    /// Takes a parameter in and returns its handle for the model.
    pub(crate) fn add(&mut self, name: &str, value: Tensor) -> Result<Param> {
        let (var, tensor) = if self.outlined {
            (
                Var::zeros((), value.dtype(), value.device())?,
                value.clone(),
            )
        } else {
            let var = Var::from_tensor(&value)?;
            let tensor = var.as_tensor().clone();
            (var, tensor)
        };
        let lower = name.to_ascii_lowercase();
        // GPT-2 calls its norms ln_1, ln_2 and ln_f.
        let norm = lower.contains("norm") || lower.contains(".ln_");
        let decays = !lower.ends_with("bias") && !norm;
        self.list.push(Trainable {
            name: name.to_owned(),
            var,
            elements: value.elem_count(),
            decays,
            zero: ZeroGradient::Never,
            group: Group::of(name),
        });
        Ok(Param {
            tensor,
            id: Some(self.list.len() - 1),
        })
    }

    /// Notes when the gradient of a parameter is rightly zero.
    pub(crate) fn expect_zero(&mut self, param: &Param, zero: ZeroGradient) {
        if let Some(id) = param.id {
            self.list[id].zero = zero;
        }
    }

    /// Number of trained values.
    pub(crate) fn count(&self) -> u64 {
        self.list.iter().map(|p| p.elements as u64).sum()
    }

    /// Number of values of the largest one.
    pub(crate) fn largest(&self) -> u64 {
        let sizes = self.list.iter().map(|p| p.elements as u64);
        sizes.max().unwrap_or(0)
    }

    /// Every parameter's tensor by name.
    pub(crate) fn tensors(&self) -> Vec<(String, Tensor)> {
        self.list
            .iter()
            .map(|p| (p.name.clone(), p.var.as_tensor().clone()))
            .collect()
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
