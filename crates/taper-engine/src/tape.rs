//! Reverse-mode differentiation over candle tensors.
//!
//! candle's own autograd computes gradients of frozen weights, keeps every activation until the loss is dropped and adds zeros
//! before each first contribution; its fused operations have no backward at all. So on the CPU each operation of [`crate::ops`]
//! runs fused kernels and leaves its backward here as a closure. A closure owns what it needs and is dropped when it has run, so
//! activations die while the backward pass goes down, and nothing is recorded below the lowest trained weight.
//!
//! With [`Path::Composed`] the same operations are put together from differentiable candle operations and candle differentiates:
//! the path of CUDA devices, and the oracle that the fused path is tested against.

use std::{cell::RefCell, ops::Deref, rc::Rc, sync::Mutex};

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Shape, Storage, Tensor};
use taper_kernels::Numbers;

use crate::{
    Result,
    estimate::Counter,
    param::{Gradients, Param, ParamId},
    parameters::Parameters,
};

/// How operations are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// Kernels of `taper-kernels` with hand-written backward.
    Fused,
    /// candle's operations under candle's autograd.
    Composed,
}

impl Path {
    pub(crate) fn of(device: &Device) -> Self {
        if device.is_cpu() {
            Self::Fused
        } else {
            Self::Composed
        }
    }
}

/// An intermediate result of a forward pass.
#[derive(Clone)]
pub(crate) struct Value {
    pub(crate) tensor: Tensor,
    /// Its place on the tape; `None` when no trained parameter lies below it, or nothing is recorded.
    node: Option<usize>,
    /// How its values are made again from what is kept anyway.
    again: Option<Again>,
}

type Again = Rc<dyn Fn() -> Result<Vec<f32>>>;

/// Where the gradient of a value goes, without the value: a backward that needs no more keeps no more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    node: Option<usize>,
    elements: usize,
}

impl Place {
    pub(crate) fn needs_gradient(self) -> bool {
        self.node.is_some()
    }

    pub(crate) fn elements(self) -> usize {
        self.elements
    }
}

/// A value that a backward needs: kept, or made again when the time comes.
pub(crate) enum Kept {
    Tensor(Tensor),
    Again(Again),
}

impl Kept {
    /// Hands the values to `read`.
    pub(crate) fn with<T>(&self, read: impl FnOnce(&[f32]) -> T) -> Result<T> {
        Ok(match self {
            Self::Tensor(tensor) => read(&slice(tensor)?),
            Self::Again(make) => read(&make()?),
        })
    }
}

impl Value {
    /// A value that needs no gradient.
    pub(crate) fn constant(tensor: Tensor) -> Self {
        Self {
            tensor,
            node: None,
            again: None,
        }
    }

    /// Where its gradient goes.
    pub(crate) fn place(&self) -> Place {
        Place {
            node: self.node,
            elements: self.tensor.elem_count(),
        }
    }

    /// Its values for a backward, which costs no memory where they can be made again.
    pub(crate) fn keep(&self) -> Kept {
        match &self.again {
            Some(make) => Kept::Again(make.clone()),
            None => Kept::Tensor(self.tensor.clone()),
        }
    }

    /// Whether keeping it costs no memory.
    pub(crate) fn can_be_made_again(&self) -> bool {
        self.again.is_some()
    }

    /// The same value, to be made again by `make` where a backward needs it: for what costs little time and much memory.
    pub(crate) fn made_by(self, make: impl Fn() -> Result<Vec<f32>> + 'static) -> Self {
        Self {
            again: Some(Rc::new(make)),
            ..self
        }
    }

    /// The outline of a value on a tape that counts.
    pub(crate) fn counted(tensor: Tensor, node: usize) -> Self {
        Self {
            tensor,
            node: Some(node),
            again: None,
        }
    }

    pub(crate) fn node(&self) -> Option<usize> {
        self.node
    }

    pub(crate) fn needs_gradient(&self) -> bool {
        self.node.is_some()
    }

    /// Number of rows of a matrix.
    pub(crate) fn rows(&self) -> Result<usize> {
        Ok(self.tensor.dims2()?.0)
    }
}

type Backward = Box<dyn FnOnce(&mut Flow<'_>, Vec<f32>) -> Result<()>>;

/// Records a forward pass; one tape per pass.
pub(crate) struct Tape {
    pub(crate) path: Path,
    recording: bool,
    /// Whether each parameter is trained in this pass; `None` = all.
    active: Option<Vec<bool>>,
    steps: RefCell<Vec<Backward>>,
    /// Counts what operations would take, in place of carrying them out.
    pub(crate) counter: Option<Counter>,
}

impl Tape {
    /// A tape for training. Parameters that are not active get no gradient, and the backward pass ends above them.
    pub(crate) fn recording(path: Path, active: Option<Vec<bool>>) -> Self {
        Self {
            path,
            recording: true,
            active,
            steps: RefCell::default(),
            counter: None,
        }
    }

    /// This tape, but one on which outlines pass and nothing is computed.
    pub(crate) fn counting(self) -> Self {
        Self {
            counter: Some(Counter::default()),
            ..self
        }
    }

    /// A tape for evaluation: nothing is kept.
    pub(crate) fn idle(path: Path) -> Self {
        Self {
            path,
            recording: false,
            active: None,
            steps: RefCell::default(),
            counter: None,
        }
    }

    /// Where the gradient of a parameter goes in this pass; `None` when it gets none.
    pub(crate) fn slot(&self, param: &Param) -> Option<ParamId> {
        let active = |id: &ParamId| self.active.as_ref().is_none_or(|active| active[*id]);
        param.id.filter(|id| self.recording && active(id))
    }

    /// Tells whether an operation on these inputs has to leave a backward; `trains` tells whether its own parameters need one.
    pub(crate) fn records(&self, inputs: &[&Value], trains: bool) -> bool {
        self.recording && (trains || inputs.iter().any(|value| value.needs_gradient()))
    }

    /// The result of a fused operation, with the backward that turns the gradient of `data` into gradients of what it came from.
    pub(crate) fn record(
        &self,
        data: Vec<f32>,
        shape: impl Into<Shape>,
        backward: impl FnOnce(&mut Flow<'_>, Vec<f32>) -> Result<()> + 'static,
    ) -> Result<Value> {
        let tensor = Tensor::from_vec(data, shape, &Device::Cpu)?;
        Ok(self.record_tensor(tensor, backward))
    }

    /// As [`record`](Self::record), of a tensor that the backward may hold too.
    pub(crate) fn record_tensor(
        &self,
        tensor: Tensor,
        backward: impl FnOnce(&mut Flow<'_>, Vec<f32>) -> Result<()> + 'static,
    ) -> Value {
        let mut steps = self.steps.borrow_mut();
        steps.push(Box::new(backward));
        Value {
            tensor,
            node: Some(steps.len() - 1),
            again: None,
        }
    }

    /// The result of a fused operation that needs no backward.
    pub(crate) fn constant(data: Vec<f32>, shape: impl Into<Shape>) -> Result<Value> {
        Ok(Value::constant(Tensor::from_vec(
            data,
            shape,
            &Device::Cpu,
        )?))
    }

    /// Adds the gradients of `loss`, a single number, to `gradients`.
    pub(crate) fn backward(
        self,
        loss: &Value,
        parameters: &Parameters,
        gradients: &mut Gradients,
    ) -> Result<()> {
        match self.path {
            Path::Fused => {
                let mut steps = self.steps.into_inner();
                let mut flow = Flow {
                    nodes: steps.iter().map(|_| None).collect(),
                    gradients,
                };
                flow.add(loss.place(), vec![1.0]);
                while let Some(backward) = steps.pop() {
                    let arrived = flow.nodes.pop().flatten();
                    if let Some(gradient) = arrived {
                        backward(&mut flow, gradient)?;
                    }
                }
            }
            Path::Composed => {
                let store = loss.tensor.backward()?;
                let active = |id: usize| self.active.as_ref().is_none_or(|active| active[id]);
                for (id, parameter) in parameters
                    .list
                    .iter()
                    .enumerate()
                    .filter(|(id, _)| active(*id))
                {
                    if let Some(gradient) = store.get(&parameter.var) {
                        let values = gradient.flatten_all()?.to_vec1::<f32>()?;
                        gradients.add(id, values);
                    }
                }
            }
        }
        Ok(())
    }
}

/// The gradients on their way down during a backward pass.
pub(crate) struct Flow<'a> {
    nodes: Vec<Option<Vec<f32>>>,
    gradients: &'a mut Gradients,
}

impl Flow<'_> {
    /// Adds a gradient to a value's; the first one is moved, not copied.
    pub(crate) fn add(&mut self, place: Place, gradient: Vec<f32>) {
        let Some(node) = place.node else { return };
        match &mut self.nodes[node] {
            Some(sum) => taper_kernels::add_assign(sum, &gradient),
            empty => *empty = Some(gradient),
        }
    }

    /// Lets `write` put a gradient into a value's buffer, which holds an earlier contribution to add to when its flag says so.
    pub(crate) fn accumulate(&mut self, place: Place, write: impl FnOnce(&mut [f32], bool)) {
        let Some(node) = place.node else { return };
        match &mut self.nodes[node] {
            Some(sum) => write(sum, true),
            empty => write(empty.insert(vec![0.0; place.elements]), false),
        }
    }

    /// Adds to a trained parameter's gradient; the first one is moved, not copied.
    pub(crate) fn add_param(&mut self, id: ParamId, gradient: Vec<f32>) {
        self.gradients.add(id, gradient);
    }

    /// The buffer that sums a trained parameter's gradient.
    pub(crate) fn param(&mut self, id: ParamId) -> &mut [f32] {
        self.gradients.get_mut(id)
    }
}

/// Hands the values of a weight to `read`. A frozen one may be stored in a shorter format than f32.
pub(crate) fn with_weight<T>(tensor: &Tensor, read: impl FnOnce(Numbers<'_>) -> T) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F16(values)), Some((start, end))) => {
            Ok(read(Numbers::F16(&values[start..end])))
        }
        (Storage::Cpu(CpuStorage::BF16(values)), Some((start, end))) => {
            Ok(read(Numbers::Bf16(&values[start..end])))
        }
        _ => Ok(read(Numbers::F32(&slice(tensor)?))),
    }
}

/// The values of a contiguous f32 tensor on the CPU, without a copy.
pub(crate) fn slice(tensor: &Tensor) -> Result<impl Deref<Target = [f32]> + '_> {
    let (storage, layout) = tensor.storage_and_layout();
    let Some((start, end)) = layout.contiguous_offsets() else {
        return Err(candle_core::Error::RequiresContiguous { op: "slice" }.into());
    };
    match &*storage {
        Storage::Cpu(cpu) => cpu.as_slice::<f32>()?,
        _ => {
            return Err(
                candle_core::Error::msg("a fused kernel needs its tensors on the CPU").into(),
            );
        }
    };
    Ok(Slice {
        storage,
        start,
        end,
    })
}

/// Moves the values of a tensor on the CPU out of it, without a copy. Whoever else held the tensor would find it empty, so this
/// is for intermediate results that their operation has just handed over.
pub(crate) fn take(value: &Value) -> Result<Vec<f32>> {
    let taken = Taken(Mutex::new(Vec::new()));
    value.tensor.inplace_op1(&taken)?;
    Ok(taken.0.into_inner().unwrap_or_default())
}

struct Taken(Mutex<Vec<f32>>);

impl InplaceOp1 for Taken {
    fn name(&self) -> &'static str {
        "take"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let CpuStorage::F32(values) = storage else {
            candle_core::bail!("the values must be f32")
        };
        if layout.contiguous_offsets() != Some((0, values.len())) {
            candle_core::bail!("only a whole tensor can be taken");
        }
        if let Ok(mut slot) = self.0.lock() {
            *slot = std::mem::take(values);
        }
        Ok(())
    }
}

/// A borrowed view of a tensor's values, under the lock `G`.
struct Slice<G> {
    storage: G,
    start: usize,
    end: usize,
}

impl<G: Deref<Target = Storage>> Deref for Slice<G> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.start..self.end],
            _ => &[],
        }
    }
}
