//! What a pass would take, told without carrying it out.
//!
//! The tensors of this backend are outlines: they have shapes and no values. The tape and the models hold and drop them as they do real
//! ones, forward and backward, so that what is alive at a time is counted and not described a second time. Of each function only its
//! arithmetic and its scratch are said here.

mod outline;
mod work;

use std::fmt;

use candle_core::{Device, Result, Shape, Tensor};
use taper_kernels::{AdamW, Layout, TargetLoss, Update};

use super::{
    Attended, Backend, Columns, LmLoss, Matrix, NormSums, Normalization, Normalized, Normed,
    Optimized, Weight,
};
use crate::backend::{Activation, Dropout, Heads, LM_LOSS_CHUNK, RopeAngles};
use outline::{Outlines, bytes};
pub use outline::{Peak, outline};
pub use work::Work;
use work::Worked;

/// Counts what passes on its tapes would take.
pub struct Counting {
    outlines: Outlines,
    worked: Worked,
}

impl fmt::Debug for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counting")
            .field("peak", &self.peak())
            .field("work", &self.work())
            .finish()
    }
}

impl Counting {
    pub fn new() -> Result<Self> {
        Ok(Self {
            outlines: Outlines::new()?,
            worked: Worked::default(),
        })
    }

    /// The highest moment so far. Gradients of parameters are not in it: they outlive the pass.
    pub fn peak(&self) -> Peak {
        self.outlines.peak()
    }

    /// The work so far.
    pub fn work(&self) -> Work {
        self.worked.all()
    }

    /// The outline of a result that an operation on single numbers makes from these inputs.
    fn made(&self, shape: impl Into<Shape>, inputs: &[&Tensor]) -> Result<Tensor> {
        let made = self.outlines.make(shape)?;
        self.worked.elements(inputs);
        self.worked.elements(&[&made]);
        Ok(made)
    }

    /// What an operation works on in its own memory, with these inputs.
    fn changed(&self, tensor: Tensor, inputs: &[&Tensor]) -> Tensor {
        self.worked.elements(inputs);
        self.worked.elements(&[&tensor, &tensor]);
        tensor
    }

    /// A sum that may not have begun yet.
    fn sum(&self, sum: Option<Tensor>, shape: impl Into<Shape>) -> Result<Tensor> {
        match sum {
            Some(sum) => Ok(sum),
            None => self.outlines.make(shape),
        }
    }

    /// A gradient of a parameter, which is not counted.
    fn of_parameter(shape: &Shape) -> Result<Tensor> {
        outline(shape, candle_core::DType::F32)
    }
}

impl Backend for Counting {
    fn device(&self) -> &Device {
        &Device::Cpu
    }

    fn zeros(&self, shape: &Shape) -> Result<Tensor> {
        Self::of_parameter(shape)
    }

    fn copy(&self, x: &Tensor) -> Result<Tensor> {
        self.made(x.shape(), &[x])
    }

    fn add_assign(&self, sum: Tensor, x: &Tensor) -> Result<Tensor> {
        Ok(self.changed(sum, &[x]))
    }

    fn scale(&self, x: Tensor, _: &Tensor, _: f32) -> Result<Tensor> {
        Ok(self.changed(x, &[]))
    }

    fn matmul(&self, sum: Option<Tensor>, _: f32, a: Matrix<'_>, b: Matrix<'_>) -> Result<Tensor> {
        let ((rows, inner), (_, columns)) = (a.sizes()?, b.sizes()?);
        self.worked.product(rows, inner, columns);
        self.sum(sum, (rows, columns))
    }

    fn linear(&self, x: &Tensor, weight: Weight<'_>, _: Option<&Tensor>) -> Result<Tensor> {
        let ((rows, _), (inputs, outputs)) = (x.dims2()?, weight.sizes()?);
        self.worked.product(rows, inputs, outputs);
        self.outlines.make((rows, outputs))
    }

    fn linear_backward_input(
        &self,
        dx: Option<Tensor>,
        dy: &Tensor,
        weight: Weight<'_>,
    ) -> Result<Tensor> {
        let ((rows, _), (inputs, outputs)) = (dy.dims2()?, weight.sizes()?);
        self.worked.product(rows, outputs, inputs);
        self.sum(dx, (rows, inputs))
    }

    fn linear_backward_weight(
        &self,
        dw: Tensor,
        dy: &Tensor,
        x: &Tensor,
        _: Layout,
    ) -> Result<Tensor> {
        let ((rows, outputs), (_, inputs)) = (dy.dims2()?, x.dims2()?);
        self.worked.product(rows, outputs, inputs);
        Ok(dw)
    }

    fn linear_backward_bias(&self, db: Tensor, dy: &Tensor) -> Result<Tensor> {
        self.worked.elements(&[dy]);
        Ok(db)
    }

    fn attention(
        &self,
        [q, ..]: [&Tensor; 3],
        offsets: &[usize],
        heads: Heads,
    ) -> Result<Attended> {
        let (tokens, width) = q.dims2()?;
        // Scores and mixing.
        self.worked.attention(2.0, offsets, heads);
        Ok(Attended {
            out: self.outlines.make((tokens, width))?,
            lse: self.outlines.make((heads.count, tokens))?,
        })
    }

    fn attention_backward(
        &self,
        _: &Tensor,
        qkv: [&Tensor; 3],
        _: &Attended,
        offsets: &[usize],
        heads: Heads,
    ) -> Result<[Tensor; 3]> {
        // Both again and three more products.
        self.worked.attention(5.0, offsets, heads);
        let [q, k, v] = qkv.map(|input| self.outlines.make(input.shape()));
        Ok([q?, k?, v?])
    }

    fn norm(&self, x: &Tensor, norm: Normalization<'_>) -> Result<Normed> {
        let rows = x.elem_count() / norm.gamma.elem_count();
        Ok(Normed {
            y: self.made(x.shape(), &[x])?,
            stats: self.outlines.make(norm.stats_shape(rows))?,
        })
    }

    fn add_norm(
        &self,
        branch: Tensor,
        _: Dropout,
        residual: &Tensor,
        norm: Normalization<'_>,
    ) -> Result<(Tensor, Normed)> {
        let normed = self.norm(&branch, norm)?;
        self.worked.elements(&[residual]);
        Ok((branch, normed))
    }

    fn norm_backward(
        &self,
        dy: &Tensor,
        saved: Normalized<'_>,
        _: Normalization<'_>,
        sums: NormSums,
    ) -> Result<(Tensor, NormSums)> {
        Ok((self.made(saved.x.shape(), &[dy])?, sums))
    }

    fn activation(&self, x: &Tensor, _: Activation) -> Result<Tensor> {
        self.made(x.shape(), &[x])
    }

    fn activation_backward(&self, dy: &Tensor, x: &Tensor, _: Activation) -> Result<Tensor> {
        self.made(x.shape(), &[dy])
    }

    fn silu_mul(&self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        self.made(gate.shape(), &[gate, up])
    }

    fn silu_mul_backward(&self, dy: &Tensor, gate: &Tensor, up: &Tensor) -> Result<[Tensor; 2]> {
        let made = self.made(gate.shape(), &[dy])?;
        Ok([made, self.made(up.shape(), &[])?])
    }

    fn rope(&self, x: Tensor, _: &RopeAngles, _: &[u32]) -> Result<Tensor> {
        Ok(self.changed(x, &[]))
    }

    fn rope_backward(&self, dy: Tensor, _: &RopeAngles, _: &[u32]) -> Result<Tensor> {
        Ok(self.changed(dy, &[]))
    }

    fn embedding(&self, table: &Tensor, ids: &[u32]) -> Result<Tensor> {
        self.made((ids.len(), table.dims2()?.1), &[])
    }

    fn add_embedding(&self, x: Tensor, _: &Tensor, _: &[u32]) -> Result<Tensor> {
        Ok(self.changed(x, &[]))
    }

    fn embedding_backward(&self, dtable: Tensor, dy: &Tensor, _: &[u32]) -> Result<Tensor> {
        self.worked.elements(&[dy]);
        Ok(dtable)
    }

    fn prepend(&self, x: &Tensor, prompt: &Tensor, offsets: &[usize]) -> Result<Tensor> {
        let ((rows, width), (virtual_tokens, _)) = (x.dims2()?, prompt.dims2()?);
        self.made((rows + virtual_tokens * (offsets.len() - 1), width), &[x])
    }

    fn prepend_backward(
        &self,
        dy: &Tensor,
        virtual_tokens: usize,
        offsets: &[usize],
    ) -> Result<Tensor> {
        let (rows, width) = dy.dims2()?;
        self.made((rows - virtual_tokens * (offsets.len() - 1), width), &[dy])
    }

    fn prepend_backward_prompt(&self, dprompt: Tensor, _: &Tensor, _: &[usize]) -> Result<Tensor> {
        Ok(dprompt)
    }

    fn select_rows(&self, x: &Tensor, rows: &[u32]) -> Result<Tensor> {
        self.embedding(x, rows)
    }

    fn select_rows_backward(&self, dy: &Tensor, _: &[u32], total: usize) -> Result<Tensor> {
        self.made((total, dy.dims2()?.1), &[dy])
    }

    fn select_columns(&self, x: &Tensor, columns: Columns) -> Result<Tensor> {
        self.made((x.dims2()?.0, columns.width), &[])
    }

    fn select_columns_backward(
        &self,
        dx: Option<Tensor>,
        dy: &Tensor,
        columns: Columns,
    ) -> Result<Tensor> {
        self.worked.elements(&[dy]);
        self.sum(dx, (dy.dims2()?.0, columns.whole))
    }

    fn dropout(&self, x: &Tensor, _: Dropout) -> Result<Tensor> {
        self.made(x.shape(), &[x])
    }

    fn dropout_in_place(&self, x: Tensor, _: Dropout) -> Result<Tensor> {
        Ok(self.changed(x, &[]))
    }

    fn add(&self, residual: &Tensor, branch: Tensor, _: Dropout) -> Result<Tensor> {
        Ok(self.changed(branch, &[residual]))
    }

    fn cross_entropy(&self, logits: &Tensor, _: &[u32], _: usize) -> Result<(Tensor, Tensor)> {
        Ok((
            self.outlines.make(())?,
            self.made(logits.shape(), &[logits])?,
        ))
    }

    fn lm_loss(
        &self,
        states: &Tensor,
        table: &Tensor,
        next: &[u32],
        mean_over: usize,
        trained: bool,
    ) -> Result<LmLoss> {
        let ((rows, width), (vocabulary, _)) = (states.dims2()?, table.dims2()?);
        let dstates = self.outlines.make(states.shape())?;
        let (loss, _) = self.lm_loss_forward(states, table, next, mean_over)?;
        for _ in 0..1 + usize::from(trained) {
            self.worked.product(rows, vocabulary, width);
        }
        Ok(LmLoss {
            loss,
            correct: 0,
            dstates,
            dtable: trained
                .then(|| Self::of_parameter(table.shape()))
                .transpose()?,
        })
    }

    /// Only a chunk of the logits is there at a time.
    fn lm_loss_forward(
        &self,
        states: &Tensor,
        table: &Tensor,
        _: &[u32],
        _: usize,
    ) -> Result<(Tensor, Vec<TargetLoss>)> {
        let ((rows, width), (vocabulary, _)) = (states.dims2()?, table.dims2()?);
        let chunk = Shape::from((LM_LOSS_CHUNK.min(rows), vocabulary));
        self.outlines.rises_by(bytes(&chunk));
        self.worked.product(rows, width, vocabulary);
        // Written, and read and written once more for their exponentials.
        self.worked.numbers(3 * rows * vocabulary);
        Ok((self.outlines.make(())?, Vec::new()))
    }

    fn sums_of_squares(&self, tensors: &[&Tensor]) -> Result<Vec<f64>> {
        self.worked.elements(tensors);
        Ok(tensors.iter().map(|_| 0.0).collect())
    }

    fn adamw(&self, parameter: Optimized<'_>, _: AdamW, _: Update) -> Result<()> {
        let Optimized {
            value,
            gradient,
            m,
            v,
        } = parameter;
        // The gradient is read; the others are read and written.
        self.worked.elements(&[gradient, value, value, m, m, v, v]);
        Ok(())
    }
}
