//! What computes: one trait, a function a pass.
//!
//! Buffers are candle tensors on the backend's device, so that activations, gradients and moments lie where they are computed. Tensors
//! that a function takes by value are used up: it may work in their memory, and nothing else may hold them. Unless said otherwise
//! tensors are `f32`, contiguous and packed: `[tokens, width]`, sequences laid end to end.
//!
//! Gradients of a value come as `Option<Tensor>` where they can be added to in place: the earlier contributions, if there are any. Those
//! of a parameter always come as the sum so far.

mod arguments;
mod counting;
mod cpu;
mod reference;

use std::{fmt::Debug, sync::Arc};

use candle_core::{Device, Result, Shape, Tensor};
use taper_kernels::{AdamW, Layout, TargetLoss, Update};

pub(crate) use arguments::LM_LOSS_CHUNK;
pub use arguments::{
    Activation, Attended, Columns, Dropout, Heads, LmLoss, Matrix, NormSums, Normalization,
    Normalized, Normed, Optimized, RopeAngles, Weight,
};
pub use counting::{Counting, Peak, Work, outline};
pub use cpu::Cpu;
pub use reference::Reference;

/// The backend of a device.
pub fn backend_of(device: &Device) -> Arc<dyn Backend> {
    match device {
        Device::Cpu => Arc::new(Cpu),
        Device::Cuda(_) | Device::Metal(_) => Arc::new(Reference::new(device)),
    }
}

/// The arithmetic of one device. What a backend does not define is computed by [`Reference`].
pub trait Backend: Debug + Send + Sync {
    /// Where its tensors lie.
    fn device(&self) -> &Device;

    /// The start of a parameter's gradient.
    fn zeros(&self, shape: &Shape) -> Result<Tensor> {
        reference::zeros(shape, self.device())
    }

    /// The same values in memory of their own.
    fn copy(&self, x: &Tensor) -> Result<Tensor> {
        reference::copy(x)
    }

    /// `sum + x`.
    fn add_assign(&self, sum: Tensor, x: &Tensor) -> Result<Tensor> {
        reference::add_assign(sum, x)
    }

    /// `x · factor / divisor`; the factor is a single number on the device.
    fn scale(&self, x: Tensor, factor: &Tensor, divisor: f32) -> Result<Tensor> {
        reference::scale(x, factor, divisor)
    }

    /// `sum + alpha · a · b`, or the product alone. Operands may be f16 or bf16.
    fn matmul(
        &self,
        sum: Option<Tensor>,
        alpha: f32,
        a: Matrix<'_>,
        b: Matrix<'_>,
    ) -> Result<Tensor> {
        reference::matmul(sum, alpha, a, b)
    }

    /// `x · W + bias`, `[rows, in]` to `[rows, out]`. The weight may be f16 or bf16.
    fn linear(&self, x: &Tensor, weight: Weight<'_>, bias: Option<&Tensor>) -> Result<Tensor> {
        reference::linear(x, weight, bias)
    }

    /// The gradient of the input of [`Self::linear`], added to `dx`.
    fn linear_backward_input(
        &self,
        dx: Option<Tensor>,
        dy: &Tensor,
        weight: Weight<'_>,
    ) -> Result<Tensor> {
        reference::linear_backward_input(dx, dy, weight)
    }

    /// The gradient of the weight of [`Self::linear`], in its layout, added to `dw`.
    fn linear_backward_weight(
        &self,
        dw: Tensor,
        dy: &Tensor,
        x: &Tensor,
        layout: Layout,
    ) -> Result<Tensor> {
        reference::linear_backward_weight(dw, dy, x, layout)
    }

    /// The gradient of the bias of [`Self::linear`], added to `db`.
    fn linear_backward_bias(&self, db: Tensor, dy: &Tensor) -> Result<Tensor> {
        reference::linear_backward_bias(db, dy)
    }

    /// Attention of every token to the tokens of its own sequence. Queries are `[tokens, heads · dim]`, keys and values
    /// `[tokens, key_values · dim]`; `offsets` says where sequences begin, and the end.
    fn attention(&self, qkv: [&Tensor; 3], offsets: &[usize], heads: Heads) -> Result<Attended> {
        reference::attention(qkv, offsets, heads)
    }

    /// The gradients of queries, keys and values.
    fn attention_backward(
        &self,
        dy: &Tensor,
        qkv: [&Tensor; 3],
        attended: &Attended,
        offsets: &[usize],
        heads: Heads,
    ) -> Result<[Tensor; 3]> {
        reference::attention_backward(dy, qkv, attended, offsets, heads)
    }

    /// Normalises each piece of `x` of the length of `gamma`.
    fn norm(&self, x: &Tensor, norm: Normalization<'_>) -> Result<Normed> {
        reference::norm(x, norm)
    }

    /// `sum = dropout(branch) + residual`, and that normalised; returns the sum too.
    fn add_norm(
        &self,
        branch: Tensor,
        dropout: Dropout,
        residual: &Tensor,
        norm: Normalization<'_>,
    ) -> Result<(Tensor, Normed)> {
        reference::add_norm(branch, dropout, residual, norm)
    }

    /// The gradients of a normalisation: of its input `x`, and added to `sums` those of its parameters that are wanted.
    fn norm_backward(
        &self,
        dy: &Tensor,
        saved: Normalized<'_>,
        norm: Normalization<'_>,
        sums: NormSums,
    ) -> Result<(Tensor, NormSums)> {
        reference::norm_backward(dy, saved, norm, sums)
    }

    /// The function of every element.
    fn activation(&self, x: &Tensor, function: Activation) -> Result<Tensor> {
        reference::activation(x, function)
    }

    /// The gradient of the input `x` of [`Self::activation`].
    fn activation_backward(&self, dy: &Tensor, x: &Tensor, function: Activation) -> Result<Tensor> {
        reference::activation_backward(dy, x, function)
    }

    /// `silu(gate) · up`.
    fn silu_mul(&self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        reference::silu_mul(gate, up)
    }

    /// The gradients of gate and up.
    fn silu_mul_backward(&self, dy: &Tensor, gate: &Tensor, up: &Tensor) -> Result<[Tensor; 2]> {
        reference::silu_mul_backward(dy, gate, up)
    }

    /// Turns every head of `x`, `[tokens, heads · head_dim]`, by the angles of its token's position.
    fn rope(&self, x: Tensor, angles: &RopeAngles, positions: &[u32]) -> Result<Tensor> {
        reference::rope(x, angles, positions)
    }

    /// The gradient of the input of [`Self::rope`].
    fn rope_backward(&self, dy: Tensor, angles: &RopeAngles, positions: &[u32]) -> Result<Tensor> {
        reference::rope_backward(dy, angles, positions)
    }

    /// Rows looked up in a table, `[ids, width]`. The table may be f16 or bf16.
    fn embedding(&self, table: &Tensor, ids: &[u32]) -> Result<Tensor> {
        reference::embedding(table, ids)
    }

    /// `x` and the rows looked up in a table, which may be f16 or bf16.
    fn add_embedding(&self, x: Tensor, table: &Tensor, ids: &[u32]) -> Result<Tensor> {
        reference::add_embedding(x, table, ids)
    }

    /// The gradient of a table, added to `dtable`.
    fn embedding_backward(&self, dtable: Tensor, dy: &Tensor, ids: &[u32]) -> Result<Tensor> {
        reference::embedding_backward(dtable, dy, ids)
    }

    /// Puts the rows of `prompt` in front of every sequence; `offsets` says where sequences begin in `x`.
    fn prepend(&self, x: &Tensor, prompt: &Tensor, offsets: &[usize]) -> Result<Tensor> {
        reference::prepend(x, prompt, offsets)
    }

    /// The gradient of the sequences of [`Self::prepend`], behind `virtual_tokens` rows each.
    fn prepend_backward(
        &self,
        dy: &Tensor,
        virtual_tokens: usize,
        offsets: &[usize],
    ) -> Result<Tensor> {
        reference::prepend_backward(dy, virtual_tokens, offsets)
    }

    /// The gradient of the prompt of [`Self::prepend`], added to `dprompt`.
    fn prepend_backward_prompt(
        &self,
        dprompt: Tensor,
        dy: &Tensor,
        offsets: &[usize],
    ) -> Result<Tensor> {
        reference::prepend_backward_prompt(dprompt, dy, offsets)
    }

    /// Picks rows of a matrix, each at most once.
    fn select_rows(&self, x: &Tensor, rows: &[u32]) -> Result<Tensor> {
        reference::select_rows(x, rows)
    }

    /// The gradient of the matrix of `total` rows of [`Self::select_rows`].
    fn select_rows_backward(&self, dy: &Tensor, rows: &[u32], total: usize) -> Result<Tensor> {
        reference::select_rows_backward(dy, rows, total)
    }

    /// Picks columns of a matrix that lie side by side.
    fn select_columns(&self, x: &Tensor, columns: Columns) -> Result<Tensor> {
        reference::select_columns(x, columns)
    }

    /// The gradient of the matrix of [`Self::select_columns`], added to `dx`.
    fn select_columns_backward(
        &self,
        dx: Option<Tensor>,
        dy: &Tensor,
        columns: Columns,
    ) -> Result<Tensor> {
        reference::select_columns_backward(dx, dy, columns)
    }

    /// Zeroes elements at random and scales the others up.
    fn dropout(&self, x: &Tensor, dropout: Dropout) -> Result<Tensor> {
        reference::dropout(x, dropout)
    }

    /// As [`Self::dropout`], of a tensor that nobody else needs; the gradient is the same function of `dy`.
    fn dropout_in_place(&self, x: Tensor, dropout: Dropout) -> Result<Tensor> {
        reference::dropout_in_place(x, dropout)
    }

    /// `residual + dropout(branch)`.
    fn add(&self, residual: &Tensor, branch: Tensor, dropout: Dropout) -> Result<Tensor> {
        reference::add(residual, branch, dropout)
    }

    /// The cross-entropy of logits, `[rows, classes]`, summed and divided by `mean_over`, and the gradient of the sum.
    fn cross_entropy(
        &self,
        logits: &Tensor,
        labels: &[u32],
        mean_over: usize,
    ) -> Result<(Tensor, Tensor)> {
        reference::cross_entropy(logits, labels, mean_over)
    }

    /// The cross-entropy of `states · tableᵀ` with the tokens that come next, with gradients; that of the table is made only if it is
    /// `trained`. The table may be f16 or bf16.
    fn lm_loss(
        &self,
        states: &Tensor,
        table: &Tensor,
        next: &[u32],
        mean_over: usize,
        trained: bool,
    ) -> Result<LmLoss> {
        reference::lm_loss(states, table, next, mean_over, trained)
    }

    /// The loss of [`Self::lm_loss`] without gradients, and that of each token.
    fn lm_loss_forward(
        &self,
        states: &Tensor,
        table: &Tensor,
        next: &[u32],
        mean_over: usize,
    ) -> Result<(Tensor, Vec<TargetLoss>)> {
        reference::lm_loss_forward(states, table, next, mean_over)
    }

    /// The sum of the squares of each tensor.
    fn sums_of_squares(&self, tensors: &[&Tensor]) -> Result<Vec<f64>> {
        reference::sums_of_squares(tensors)
    }

    /// Changes a parameter and its moments, in their own memory.
    fn adamw(&self, parameter: Optimized<'_>, adamw: AdamW, update: Update) -> Result<()> {
        reference::adamw(parameter, adamw, update)
    }
}
