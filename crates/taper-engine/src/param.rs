//! The weights of a model: which are trained, and where their gradients gather.

use candle_core::{Shape, Tensor};
pub(crate) use taper_autodiff::{Gradients, Param};

use crate::{Result, methods::Group};

/// A parameter that training changes.
pub(crate) struct Trainable {
    /// The name in the exported file.
    pub(crate) name: String,
    pub(crate) tensor: Tensor,
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
}

impl Parameters {
    /// Takes a parameter in and returns its handle for the model.
    pub(crate) fn add(&mut self, name: &str, value: Tensor) -> Result<Param> {
        let lower = name.to_ascii_lowercase();
        // GPT-2 calls its norms ln_1, ln_2 and ln_f.
        let norm = lower.contains("norm") || lower.contains(".ln_");
        let decays = !lower.ends_with("bias") && !norm;
        self.list.push(Trainable {
            name: name.to_owned(),
            tensor: value.clone(),
            decays,
            zero: ZeroGradient::Never,
            group: Group::of(name),
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
