//! The tape: what a forward pass leaves for its backward pass.
//!
//! candle's own autograd computes gradients of frozen weights, keeps every activation until the loss is dropped and adds zeros before
//! each first contribution; its fused operations have no backward at all. So each operation of [`crate::ops`] leaves its backward here
//! as a closure. A closure owns what it needs and is dropped when it has run, so activations die while the backward pass goes down,
//! and nothing is recorded below the lowest trained weight.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use candle_core::{DType, Result, Tensor};

use crate::{
    Backend,
    backend::Dropout,
    param::{Gradients, Param, ParamId},
};

/// An intermediate result of a forward pass.
#[derive(Clone)]
pub struct Value {
    pub tensor: Tensor,
    node: Node,
    /// How it is recomputed from what is kept anyway.
    recompute: Option<Recompute>,
}

type Recompute = Rc<dyn Fn(&dyn Backend) -> Result<Tensor>>;

/// Where the gradient of a value goes, without the value: a backward that needs no more keeps no more. It is the place of the value's
/// backward on the tape; none when no trained parameter lies below the value, or nothing is recorded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node(Option<usize>);

impl Node {
    pub(crate) fn needs_gradient(self) -> bool {
        self.0.is_some()
    }
}

/// A value that a backward needs: kept, or recomputed when the time comes.
pub(crate) enum Kept {
    Tensor(Tensor),
    Recomputed(Recompute),
}

impl Kept {
    pub(crate) fn tensor(&self, backend: &dyn Backend) -> Result<Tensor> {
        match self {
            Self::Tensor(tensor) => Ok(tensor.clone()),
            Self::Recomputed(recompute) => recompute(backend),
        }
    }
}

impl Value {
    /// A value that needs no gradient.
    pub fn constant(tensor: Tensor) -> Self {
        Self {
            tensor,
            node: Node(None),
            recompute: None,
        }
    }

    /// Where its gradient goes.
    pub(crate) fn node(&self) -> Node {
        self.node
    }

    /// The value for a backward, which costs no memory where it can be recomputed.
    pub(crate) fn keep(&self) -> Kept {
        match &self.recompute {
            Some(recompute) => Kept::Recomputed(recompute.clone()),
            None => Kept::Tensor(self.tensor.clone()),
        }
    }

    /// The same value, to be recomputed where a backward needs it: for what costs little time and much memory.
    pub(crate) fn recomputed_by(
        self,
        recompute: impl Fn(&dyn Backend) -> Result<Tensor> + 'static,
    ) -> Self {
        Self {
            recompute: Some(Rc::new(recompute)),
            ..self
        }
    }

    pub(crate) fn needs_gradient(&self) -> bool {
        self.node.needs_gradient()
    }
}

type Backward = Box<dyn FnOnce(&mut GradientSink<'_>, Tensor) -> Result<()>>;

/// Records a forward pass; one tape per pass.
pub struct Tape {
    backend: Arc<dyn Backend>,
    recording: bool,
    /// Whether each parameter is trained in this pass; `None` = all.
    active: Option<Vec<bool>>,
    steps: RefCell<Vec<Backward>>,
}

impl Tape {
    /// A tape for training. Parameters that are not active get no gradient, and the backward pass ends above them.
    pub fn recording(backend: Arc<dyn Backend>, active: Option<Vec<bool>>) -> Self {
        Self {
            backend,
            recording: true,
            active,
            steps: RefCell::default(),
        }
    }

    /// A tape for evaluation: nothing is kept.
    pub fn idle(backend: Arc<dyn Backend>) -> Self {
        Self {
            backend,
            recording: false,
            active: None,
            steps: RefCell::default(),
        }
    }

    /// What computes on this tape.
    pub fn backend(&self) -> &dyn Backend {
        &*self.backend
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

    /// The result of an operation, with the backward that turns its gradient into gradients of what it came from.
    pub(crate) fn record(
        &self,
        tensor: Tensor,
        backward: impl FnOnce(&mut GradientSink<'_>, Tensor) -> Result<()> + 'static,
    ) -> Value {
        let mut steps = self.steps.borrow_mut();
        steps.push(Box::new(backward));
        Value {
            tensor,
            node: Node(Some(steps.len() - 1)),
            recompute: None,
        }
    }

    /// Adds the gradients of `loss`, a single number, to `gradients`.
    pub fn backward(self, loss: &Value, gradients: &mut Gradients) -> Result<()> {
        let mut steps = self.steps.into_inner();
        let mut sink = GradientSink {
            backend: &*self.backend,
            nodes: steps.iter().map(|_| None).collect(),
            gradients,
        };
        let one = Tensor::ones((), DType::F32, sink.backend.device())?;
        sink.add(loss.node(), one)?;
        while let Some(backward) = steps.pop() {
            let arrived = sink.nodes.pop().flatten();
            if let Some(gradient) = arrived {
                backward(&mut sink, gradient)?;
            }
        }
        Ok(())
    }
}

/// Takes in the gradients on their way down during a backward pass.
pub struct GradientSink<'a> {
    pub(crate) backend: &'a dyn Backend,
    nodes: Vec<Option<Tensor>>,
    gradients: &'a mut Gradients,
}

impl GradientSink<'_> {
    /// Adds a gradient to a value's; the first one is moved, not copied, so nothing else may hold its memory.
    pub(crate) fn add(&mut self, node: Node, gradient: Tensor) -> Result<()> {
        let backend = self.backend;
        self.accumulate(node, |sum| match sum {
            Some(sum) => backend.add_assign(sum, &gradient),
            None => Ok(gradient),
        })
    }

    /// Adds the gradient of `residual + dropout(branch)` to those of both.
    pub(crate) fn add_both(
        &mut self,
        residual: Node,
        branch: Node,
        dropout: Dropout,
        gradient: Tensor,
    ) -> Result<()> {
        if !branch.needs_gradient() {
            return self.add(residual, gradient);
        }
        if residual.needs_gradient() {
            let copy = self.backend.copy(&gradient)?;
            self.add(residual, copy)?;
        }
        let gradient = dropout.in_place(self.backend, gradient)?;
        self.add(branch, gradient)
    }

    /// Lets `write` make a value's gradient out of the earlier contributions, if there are any.
    pub(crate) fn accumulate(
        &mut self,
        node: Node,
        write: impl FnOnce(Option<Tensor>) -> Result<Tensor>,
    ) -> Result<()> {
        let Some(node) = node.0 else {
            return Ok(());
        };
        let sum = write(self.nodes[node].take())?;
        self.nodes[node] = Some(sum);
        Ok(())
    }

    /// Adds to a trained parameter's gradient; the first one is moved, not copied.
    pub(crate) fn add_param(&mut self, id: ParamId, gradient: Tensor) -> Result<()> {
        self.gradients.add(self.backend, id, gradient)
    }

    /// Lets `write` add to the sum of a trained parameter's gradients.
    pub(crate) fn param(
        &mut self,
        id: ParamId,
        write: impl FnOnce(Tensor) -> Result<Tensor>,
    ) -> Result<()> {
        let sum = self.take_param(id)?;
        self.put_param(id, write(sum)?);
        Ok(())
    }

    /// The sum of a trained parameter's gradients, zeros at first, to be given back with [`Self::put_param`].
    pub(crate) fn take_param(&mut self, id: ParamId) -> Result<Tensor> {
        self.gradients.take(self.backend, id)
    }

    pub(crate) fn put_param(&mut self, id: ParamId, sum: Tensor) {
        self.gradients.put(id, sum);
    }
}
