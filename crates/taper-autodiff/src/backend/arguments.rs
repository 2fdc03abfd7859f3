//! What the functions of [`Backend`](super::Backend) take and give.

use candle_core::{Device, Result, Tensor};
use taper_kernels::{self as kernels, Layout};

use super::Backend;

/// An operand of a product: a matrix, or the transpose of one.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    pub tensor: &'a Tensor,
    pub transposed: bool,
}

impl<'a> Matrix<'a> {
    pub fn new(tensor: &'a Tensor) -> Self {
        Self {
            tensor,
            transposed: false,
        }
    }

    pub fn t(self) -> Self {
        Self {
            transposed: !self.transposed,
            ..self
        }
    }

    /// Rows and columns, as the product sees them.
    pub fn sizes(self) -> Result<(usize, usize)> {
        let (rows, columns) = self.tensor.dims2()?;
        Ok(if self.transposed {
            (columns, rows)
        } else {
            (rows, columns)
        })
    }
}

/// The weight of a fully connected layer.
#[derive(Clone, Copy, Debug)]
pub struct Weight<'a> {
    pub tensor: &'a Tensor,
    /// How it lies: `OutIn` as in PyTorch's Linear, `InOut` as in GPT-2's Conv1D.
    pub layout: Layout,
}

impl<'a> Weight<'a> {
    pub fn new(tensor: &'a Tensor, layout: Layout) -> Self {
        Self { tensor, layout }
    }

    /// Widths of the layer's input and of its result.
    pub fn sizes(self) -> Result<(usize, usize)> {
        let (rows, columns) = self.tensor.dims2()?;
        Ok(match self.layout {
            Layout::OutIn => (columns, rows),
            Layout::InOut => (rows, columns),
        })
    }
}

/// The result of attention.
#[derive(Clone, Debug)]
pub struct Attended {
    /// `[tokens, heads · dim]`.
    pub out: Tensor,
    /// Logarithms of the softmax denominators, `[heads, tokens]`.
    pub lse: Tensor,
}

/// The parameters of a normalisation, of rows of the length of `gamma`.
#[derive(Clone, Copy, Debug)]
pub struct Normalization<'a> {
    pub gamma: &'a Tensor,
    /// With it the mean is taken off too (layer norm); without it rows are divided by their root mean square.
    pub beta: Option<&'a Tensor>,
    pub eps: f32,
}

impl Normalization<'_> {
    /// The shape of the statistics of so many rows.
    pub(crate) fn stats_shape(self, rows: usize) -> (usize, usize) {
        (rows, if self.beta.is_some() { 2 } else { 1 })
    }
}

/// The result of a normalisation.
#[derive(Clone, Debug)]
pub struct Normed {
    pub y: Tensor,
    /// Of each row the mean and the reciprocal standard deviation, or the reciprocal root mean square alone; `[rows, 2]` or `[rows, 1]`.
    pub stats: Tensor,
}

/// What the backward of a normalisation needs: its input, and the statistics of [`Normed`].
#[derive(Clone, Copy, Debug)]
pub struct Normalized<'a> {
    pub x: &'a Tensor,
    pub stats: &'a Tensor,
}

/// The sums of the gradients of a normalisation's parameters; `None` where they are not wanted.
#[derive(Debug, Default)]
pub struct NormSums {
    pub gamma: Option<Tensor>,
    pub beta: Option<Tensor>,
}

/// Columns of a matrix of `whole` columns.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    pub start: usize,
    pub width: usize,
    pub whole: usize,
}

/// The loss of some tokens with the gradients of the mean.
#[derive(Debug)]
pub struct LmLoss {
    pub loss: Tensor,
    /// Tokens that had the largest logit.
    pub correct: u64,
    pub dstates: Tensor,
    pub dtable: Option<Tensor>,
}

/// A parameter in the hands of its optimizer, all of one shape.
#[derive(Clone, Copy, Debug)]
pub struct Optimized<'a> {
    pub value: &'a Tensor,
    pub gradient: &'a Tensor,
    pub m: &'a Tensor,
    pub v: &'a Tensor,
}

/// A function of one number, applied to every element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x·Φ(x)`.
    Gelu,
    /// GELU by the hyperbolic tangent, as GPT-2 has it.
    GeluTanh,
    Relu,
    Tanh,
}

/// Dropout at one place of one pass: which elements fall is a pure function of the key, so nothing is stored for the backward.
#[derive(Clone, Copy, Debug)]
pub struct Dropout(Option<kernels::Dropout>);

impl Dropout {
    /// Keeps everything, as in evaluation.
    pub const OFF: Self = Self(None);

    pub fn new(p: f32, key: u64) -> Self {
        Self((p > 0.0).then_some(kernels::Dropout { p, key }))
    }

    pub fn is_off(self) -> bool {
        self.0.is_none()
    }

    /// The form that kernels take.
    pub fn kernel(self) -> Option<kernels::Dropout> {
        self.0
    }

    /// What it leaves of `x`: that itself where it is off.
    pub(crate) fn of(self, backend: &dyn Backend, x: &Tensor) -> Result<Tensor> {
        if self.is_off() {
            Ok(x.clone())
        } else {
            backend.dropout(x, self)
        }
    }

    /// What it leaves of `x`, in its memory.
    pub(crate) fn in_place(self, backend: &dyn Backend, x: Tensor) -> Result<Tensor> {
        if self.is_off() {
            Ok(x)
        } else {
            backend.dropout_in_place(x, self)
        }
    }
}

/// How attention works in one layer of one pass.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    pub count: usize,
    /// Heads of keys and values, a divisor of `count`: each serves a group of query heads.
    pub key_values: usize,
    pub dim: usize,
    /// Whether a token sees only itself and those before it.
    pub causal: bool,
    /// How many tokens a token sees at most, itself included.
    pub window: Option<usize>,
    /// On the probabilities.
    pub dropout: Dropout,
}

impl Heads {
    /// The factor of the scores.
    pub(crate) fn scale(self) -> f32 {
        1.0 / (self.dim as f32).sqrt()
    }
}

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
        let angle = |position: usize, frequency: &f64| position as f64 * frequency;
        let table = |function: fn(f64) -> f64| {
            let values: Vec<f32> = (0..positions)
                .flat_map(|position| frequencies.iter().map(move |f| angle(position, f)))
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

/// Rows of logits over a vocabulary that are in memory at a time.
pub(crate) const LM_LOSS_CHUNK: usize = 128;
