//! The parameters that a run trains: what they are, and to which part of the model they belong.

use std::fmt;

use candle_core::{Shape, Tensor};
use taper_autodiff::{Gradients, Param};

use crate::Result;

/// A parameter that training changes.
pub(crate) struct Trainable {
    /// The name in the exported file.
    pub(crate) name: String,
    pub(crate) tensor: Tensor,
    pub(crate) kind: Kind,
    pub(crate) zero: ZeroGradient,
    pub(crate) group: Group,
}

/// What a parameter is; said where it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Weight,
    Bias,
    /// Weight or bias of a norm.
    Norm,
    Embedding,
    /// The weight of a layer above the base: a classifier's, or the output table.
    Head,
}

impl Kind {
    /// Whether weight decay applies: not to biases and norms, as in transformers.
    pub(crate) fn decays(self) -> bool {
        match self {
            Self::Weight | Self::Embedding | Self::Head => true,
            Self::Bias | Self::Norm => false,
        }
    }
}

/// The part of a model that a parameter belongs to, by which learning rates are set and reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    Embeddings,
    /// Counted from the embeddings up.
    Layer(usize),
    /// Everything above the layers.
    Head,
    /// What a method has put beside the base, by the method's name for it.
    Adapter(&'static str),
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embeddings => f.write_str("embeddings"),
            Self::Layer(i) => write!(f, "layer.{i}"),
            Self::Head => f.write_str("head"),
            Self::Adapter(name) => f.write_str(name),
        }
    }
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
}

impl Parameters {
    /// Takes a parameter in and returns its handle for the model.
    pub(crate) fn add(
        &mut self,
        name: &str,
        kind: Kind,
        group: Group,
        value: Tensor,
    ) -> Result<Param> {
        self.list.push(Trainable {
            name: name.to_owned(),
            tensor: value.clone(),
            kind,
            zero: ZeroGradient::Never,
            group,
        });
        Ok(Param {
            tensor: value,
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
        self.elements().sum()
    }

    /// Number of values of the largest one.
    pub(crate) fn largest(&self) -> u64 {
        self.elements().max().unwrap_or(0)
    }

    fn elements(&self) -> impl Iterator<Item = u64> {
        self.list.iter().map(|p| p.tensor.elem_count() as u64)
    }

    /// Where their gradients gather.
    pub(crate) fn gradients(&self) -> Gradients {
        let shapes: Vec<Shape> = self.list.iter().map(|p| p.tensor.shape().clone()).collect();
        Gradients::new(shapes)
    }

    /// Every parameter's tensor by name.
    pub(crate) fn tensors(&self) -> Vec<(String, Tensor)> {
        self.list
            .iter()
            .map(|p| (p.name.clone(), p.tensor.clone()))
            .collect()
    }
}
