use std::{cell::RefCell, collections::HashMap};

use candle_core::{DType, Device, Shape, Tensor, TensorId};

use crate::{
    Result,
    tape::{Tape, Value},
};

/// Bytes of an f32.
pub(super) const F32: u64 = 4;

/// A tensor that has a shape and no memory of its own.
pub(crate) fn outline(shape: impl Into<Shape>, format: DType) -> Result<Tensor> {
    Ok(Tensor::zeros((), format, &Device::Cpu)?.broadcast_as(shape)?)
}

/// Arithmetic, by how fast it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Work {
    /// Floating-point operations of matrix products.
    pub(crate) products: f64,
    /// Floating-point operations of attention.
    pub(crate) attention: f64,
    /// Numbers that other operations read or write.
    pub(crate) elements: f64,
}

impl Work {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            products: self.products + other.products,
            attention: self.attention + other.attention,
            elements: self.elements + other.elements,
        }
    }

    pub(crate) fn times(self, factor: f64) -> Self {
        Self {
            products: self.products * factor,
            attention: self.attention * factor,
            elements: self.elements * factor,
        }
    }
}

/// Where the gradients of an operation's inputs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Into buffers of their own, which are added to what is there.
    Fresh,
    /// To what is there, or into a new buffer.
    Into,
    /// The first input takes over the buffer of the output's gradient; the others get copies.
    Moved,
}

/// One operation as the ledger sees it.
pub(super) struct Entry<'a> {
    pub(super) inputs: &'a [&'a Value],
    pub(super) output: Shape,
    /// Whether parameters of its own are trained. Their gradients are not counted here: they outlive the pass.
    pub(super) trains: bool,
    /// Values whose tensors it holds until its backward; those that can be made again are not held.
    pub(super) keeps: &'a [&'a Value],
    /// Whether it holds its output too.
    pub(super) keeps_output: bool,
    /// Numbers that it holds until its backward and nobody else does.
    pub(super) own: usize,
    /// Numbers that it needs while it runs, and while its backward does.
    pub(super) scratch: usize,
    pub(super) scratch_back: usize,
    pub(super) way: Way,
    pub(super) forward: Work,
    pub(super) backward: Work,
}

/// What a backward step frees and makes.
struct Step {
    keeps: Vec<TensorId>,
    own: u64,
    scratch: u64,
    /// Bytes of this operation's output, which are those of its gradient.
    output: u64,
    /// Node and bytes of each input that needs a gradient.
    inputs: Vec<(usize, u64)>,
    way: Way,
}

/// Counts what a pass on a tape would take.
#[derive(Default)]
pub(crate) struct Counter(RefCell<Counts>);

#[derive(Default)]
struct Counts {
    steps: Vec<Step>,
    /// Bytes and holders of each tensor that is kept.
    held: HashMap<TensorId, (u64, usize)>,
    /// Bytes that are kept at this moment.
    kept: u64,
    /// The highest moment so far, and how much of it were operations' scratch.
    peak: Peak,
    work: Work,
}

/// Bytes at the highest moment of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peak {
    pub(crate) activations: u64,
    /// Scores over the vocabulary and the like, which a single operation needs.
    pub(crate) scratch: u64,
}

impl Peak {
    pub(crate) fn total(self) -> u64 {
        self.activations + self.scratch
    }
}

impl Counts {
    fn rises_to(&mut self, activations: u64, scratch: u64) {
        let moment = Peak {
            activations,
            scratch,
        };
        if moment.total() > self.peak.total() {
            self.peak = moment;
        }
    }

    fn hold(&mut self, tensor: &Tensor) -> TensorId {
        let id = tensor.id();
        let held = self.held.entry(id).or_insert((bytes(tensor), 0));
        if held.1 == 0 {
            self.kept += held.0;
        }
        held.1 += 1;
        id
    }

    fn release(&mut self, id: TensorId) {
        if let Some((bytes, holders)) = self.held.get_mut(&id) {
            *holders -= 1;
            if *holders == 0 {
                self.kept -= *bytes;
            }
        }
    }
}

impl Counter {
    /// Notes an operation and gives back the outline of its result.
    pub(super) fn enter(&self, tape: &Tape, entry: Entry<'_>) -> Result<Value> {
        let tensor = outline(entry.output, DType::F32)?;
        let (output, scratch) = (bytes(&tensor), entry.scratch as u64 * F32);
        let counts = &mut *self.0.borrow_mut();
        counts.work = counts.work.plus(entry.forward);
        if !tape.records(entry.inputs, entry.trains) {
            let inputs: u64 = entry.inputs.iter().map(|value| bytes(&value.tensor)).sum();
            counts.rises_to(counts.kept + inputs + output, scratch);
            return Ok(Value::constant(tensor));
        }
        counts.work = counts.work.plus(entry.backward);
        let kept = entry
            .keeps
            .iter()
            .filter(|value| !value.can_be_made_again());
        let mut keeps: Vec<_> = kept.map(|value| counts.hold(&value.tensor)).collect();
        if entry.keeps_output {
            keeps.push(counts.hold(&tensor));
        }
        let own = entry.own as u64 * F32;
        counts.kept += own;
        counts.rises_to(counts.kept + output, scratch);
        let gradient = |value: &&Value| Some((value.node()?, bytes(&value.tensor)));
        counts.steps.push(Step {
            keeps,
            own,
            scratch: entry.scratch_back as u64 * F32,
            output,
            inputs: entry.inputs.iter().filter_map(gradient).collect(),
            way: entry.way,
        });
        Ok(Value::counted(tensor, counts.steps.len() - 1))
    }

    /// Goes the way back, and gives the highest moment of both ways and the work of both.
    pub(crate) fn finish(self) -> (Peak, Work) {
        let mut counts = self.0.into_inner();
        let mut gradients: HashMap<usize, u64> = HashMap::new();
        let (mut alive, mut node) = (0, counts.steps.len());
        while let Some(step) = counts.steps.pop() {
            node -= 1;
            let arrived = gradients.remove(&node).unwrap_or(step.output);
            let mut made = 0;
            for (place, (input, bytes)) in step.inputs.iter().enumerate() {
                let there = gradients.contains_key(input);
                made += match step.way {
                    Way::Moved if place == 0 => 0,
                    Way::Into if there => 0,
                    Way::Fresh | Way::Into | Way::Moved => *bytes,
                };
            }
            counts.rises_to(counts.kept + alive + made, step.scratch);
            alive -= arrived.min(alive);
            for (input, bytes) in step.inputs {
                if gradients.insert(input, bytes).is_none() {
                    alive += bytes;
                }
            }
            counts.kept -= step.own;
            step.keeps.into_iter().for_each(|id| counts.release(id));
        }
        (counts.peak, counts.work)
    }
}

fn bytes(tensor: &Tensor) -> u64 {
    tensor.elem_count() as u64 * F32
}
