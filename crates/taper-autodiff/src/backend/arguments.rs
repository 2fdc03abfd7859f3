//! What the functions of [`Backend`](super::Backend) take and give.

use candle_core::{Result, Tensor};
use taper_kernels::Layout;

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
