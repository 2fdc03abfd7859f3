//! The CPU: the kernels of `taper-kernels` on tensors, without copies.

mod activation;
mod arrange;
mod attention;
mod norm;
mod storage;

use candle_core::{Device, Result, Shape, Tensor};
use taper_kernels::{self as kernels, AdamW, Layout, TargetLoss, Update};

use super::{
    Attended, Backend, Columns, LmLoss, Matrix, NormSums, Normalization, Normalized, Normed,
    Optimized, Weight,
};
use crate::backend::{Activation, Dropout, Heads, LM_LOSS_CHUNK, RopeAngles};
use storage::{in_place, slice, take, tensor, with_numbers, write_all};

/// The backend of the CPU.
#[derive(Clone, Copy, Debug)]
pub struct Cpu;

/// Zeros of the size of a tensor.
fn zeros_like(x: &Tensor) -> Vec<f32> {
    vec![0.0; x.elem_count()]
}

/// Lets `write` put a gradient into a buffer of this shape, which holds an earlier contribution to add to when its flag says so.
fn accumulate(
    sum: Option<Tensor>,
    shape: (usize, usize),
    write: impl FnOnce(&mut [f32], bool),
) -> Result<Tensor> {
    let more = sum.is_some();
    let mut values = match sum {
        Some(sum) => take(sum)?,
        None => vec![0.0; shape.0 * shape.1],
    };
    write(&mut values, more);
    tensor(values, shape)
}

/// Sees an operand of these sizes as the kernels do.
fn view<'a>(
    numbers: kernels::Numbers<'a>,
    operand: Matrix<'_>,
    (rows, columns): (usize, usize),
) -> kernels::View<'a> {
    if operand.transposed {
        kernels::View::of(numbers, columns, rows).t()
    } else {
        kernels::View::of(numbers, rows, columns)
    }
}

impl Backend for Cpu {
    fn device(&self) -> &Device {
        &Device::Cpu
    }

    fn zeros(&self, shape: &Shape) -> Result<Tensor> {
        tensor(vec![0.0; shape.elem_count()], shape)
    }

    fn copy(&self, x: &Tensor) -> Result<Tensor> {
        tensor(slice(x)?.to_vec(), x.shape())
    }

    fn add_assign(&self, sum: Tensor, x: &Tensor) -> Result<Tensor> {
        let x = slice(x)?;
        in_place(sum, |sum| kernels::add_assign(sum, &x))
    }

    fn scale(&self, x: Tensor, factor: &Tensor, divisor: f32) -> Result<Tensor> {
        let factor = factor.to_scalar::<f32>()? / divisor;
        in_place(x, |x| kernels::scale(x, factor))
    }

    fn matmul(
        &self,
        sum: Option<Tensor>,
        alpha: f32,
        a: Matrix<'_>,
        b: Matrix<'_>,
    ) -> Result<Tensor> {
        let (a_sizes, b_sizes) = (a.sizes()?, b.sizes()?);
        with_numbers(a.tensor, |left| {
            with_numbers(b.tensor, |right| {
                let (left, right) = (view(left, a, a_sizes), view(right, b, b_sizes));
                accumulate(sum, (a_sizes.0, b_sizes.1), |out, more| {
                    kernels::matmul(out, more, alpha, left, right);
                })
            })
        })??
    }

    fn linear(&self, x: &Tensor, weight: Weight<'_>, bias: Option<&Tensor>) -> Result<Tensor> {
        let ((rows, _), (_, outputs)) = (x.dims2()?, weight.sizes()?);
        let mut y = vec![0.0; rows * outputs];
        let (x, bias) = (slice(x)?, bias.map(slice).transpose()?);
        with_numbers(weight.tensor, |w| {
            weight.layout.linear(&mut y, &x, w, bias.as_deref(), rows)
        })?;
        tensor(y, (rows, outputs))
    }

    fn linear_backward_input(
        &self,
        dx: Option<Tensor>,
        dy: &Tensor,
        weight: Weight<'_>,
    ) -> Result<Tensor> {
        let ((rows, _), (inputs, _)) = (dy.dims2()?, weight.sizes()?);
        let dy = slice(dy)?;
        with_numbers(weight.tensor, |w| {
            accumulate(dx, (rows, inputs), |dx, more| {
                weight.layout.backward_input(dx, more, &dy, w, rows);
            })
        })?
    }

    fn linear_backward_weight(
        &self,
        dw: Tensor,
        dy: &Tensor,
        x: &Tensor,
        layout: Layout,
    ) -> Result<Tensor> {
        let (rows, _) = dy.dims2()?;
        let (dy, x) = (slice(dy)?, slice(x)?);
        in_place(dw, |dw| layout.backward_weight(dw, &dy, &x, rows))
    }

    fn linear_backward_bias(&self, db: Tensor, dy: &Tensor) -> Result<Tensor> {
        let dy = slice(dy)?;
        in_place(db, |db| kernels::bias_backward(db, &dy))
    }

    fn attention(&self, qkv: [&Tensor; 3], offsets: &[usize], heads: Heads) -> Result<Attended> {
        attention::forward(qkv, offsets, heads)
    }

    fn attention_backward(
        &self,
        dy: &Tensor,
        qkv: [&Tensor; 3],
        attended: &Attended,
        offsets: &[usize],
        heads: Heads,
    ) -> Result<[Tensor; 3]> {
        attention::backward(dy, qkv, attended, offsets, heads)
    }

    fn norm(&self, x: &Tensor, norm: Normalization<'_>) -> Result<Normed> {
        norm::norm(x, norm)
    }

    fn add_norm(
        &self,
        branch: Tensor,
        dropout: Dropout,
        residual: &Tensor,
        norm: Normalization<'_>,
    ) -> Result<(Tensor, Normed)> {
        norm::add_norm(branch, dropout, residual, norm)
    }

    fn norm_backward(
        &self,
        dy: &Tensor,
        saved: Normalized<'_>,
        norm: Normalization<'_>,
        sums: NormSums,
    ) -> Result<(Tensor, NormSums)> {
        norm::norm_backward(dy, saved, norm, sums)
    }

    fn activation(&self, x: &Tensor, function: Activation) -> Result<Tensor> {
        let mut y = zeros_like(x);
        activation::forward(function, &mut y, &slice(x)?);
        tensor(y, x.shape())
    }

    fn activation_backward(&self, dy: &Tensor, x: &Tensor, function: Activation) -> Result<Tensor> {
        let mut dx = zeros_like(x);
        activation::backward(function, &mut dx, &slice(dy)?, &slice(x)?);
        tensor(dx, x.shape())
    }

    fn silu_mul(&self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        let mut y = zeros_like(gate);
        kernels::silu_mul(&mut y, &slice(gate)?, &slice(up)?);
        tensor(y, gate.shape())
    }

    fn silu_mul_backward(&self, dy: &Tensor, gate: &Tensor, up: &Tensor) -> Result<[Tensor; 2]> {
        let (mut dgate, mut dup) = (zeros_like(gate), zeros_like(up));
        kernels::silu_mul_backward(
            &mut dgate,
            &mut dup,
            &slice(dy)?,
            &slice(gate)?,
            &slice(up)?,
        );
        Ok([tensor(dgate, gate.shape())?, tensor(dup, up.shape())?])
    }

    fn rope(&self, x: Tensor, angles: &RopeAngles, positions: &[u32]) -> Result<Tensor> {
        turn(x, angles, positions, kernels::rope)
    }

    fn rope_backward(&self, dy: Tensor, angles: &RopeAngles, positions: &[u32]) -> Result<Tensor> {
        turn(dy, angles, positions, kernels::rope_backward)
    }

    fn embedding(&self, table: &Tensor, ids: &[u32]) -> Result<Tensor> {
        let (_, width) = table.dims2()?;
        let mut y = vec![0.0; ids.len() * width];
        with_numbers(table, |table| kernels::embedding(&mut y, table, ids))?;
        tensor(y, (ids.len(), width))
    }

    fn add_embedding(&self, x: Tensor, table: &Tensor, ids: &[u32]) -> Result<Tensor> {
        with_numbers(table, |table| {
            in_place(x, |y| kernels::embedding_add(y, table, ids))
        })?
    }

    fn embedding_backward(&self, dtable: Tensor, dy: &Tensor, ids: &[u32]) -> Result<Tensor> {
        let dy = slice(dy)?;
        in_place(dtable, |dtable| {
            kernels::embedding_backward(dtable, &dy, ids);
        })
    }

    fn prepend(&self, x: &Tensor, prompt: &Tensor, offsets: &[usize]) -> Result<Tensor> {
        arrange::prepend(x, prompt, offsets)
    }

    fn prepend_backward(
        &self,
        dy: &Tensor,
        virtual_tokens: usize,
        offsets: &[usize],
    ) -> Result<Tensor> {
        arrange::prepend_backward(dy, virtual_tokens, offsets)
    }

    fn prepend_backward_prompt(
        &self,
        dprompt: Tensor,
        dy: &Tensor,
        offsets: &[usize],
    ) -> Result<Tensor> {
        arrange::prepend_backward_prompt(dprompt, dy, offsets)
    }

    fn select_rows(&self, x: &Tensor, rows: &[u32]) -> Result<Tensor> {
        self.embedding(x, rows)
    }

    fn select_rows_backward(&self, dy: &Tensor, rows: &[u32], total: usize) -> Result<Tensor> {
        arrange::select_rows_backward(dy, rows, total)
    }

    fn select_columns(&self, x: &Tensor, columns: Columns) -> Result<Tensor> {
        arrange::select_columns(x, columns)
    }

    fn select_columns_backward(
        &self,
        dx: Option<Tensor>,
        dy: &Tensor,
        columns: Columns,
    ) -> Result<Tensor> {
        arrange::select_columns_backward(dx, dy, columns)
    }

    fn dropout(&self, x: &Tensor, dropout: Dropout) -> Result<Tensor> {
        let Some(dropout) = dropout.kernel() else {
            return self.copy(x);
        };
        let mut out = zeros_like(x);
        kernels::dropout(&mut out, &slice(x)?, dropout);
        tensor(out, x.shape())
    }

    fn dropout_in_place(&self, x: Tensor, dropout: Dropout) -> Result<Tensor> {
        match dropout.kernel() {
            None => Ok(x),
            Some(dropout) => in_place(x, |x| kernels::dropout_in_place(x, dropout)),
        }
    }

    fn add(&self, residual: &Tensor, branch: Tensor, dropout: Dropout) -> Result<Tensor> {
        let residual = slice(residual)?;
        in_place(branch, |sum| {
            if let Some(dropout) = dropout.kernel() {
                kernels::dropout_in_place(sum, dropout);
            }
            kernels::add_assign(sum, &residual);
        })
    }

    fn cross_entropy(
        &self,
        logits: &Tensor,
        labels: &[u32],
        mean_over: usize,
    ) -> Result<(Tensor, Tensor)> {
        let (_, classes) = logits.dims2()?;
        let mut gradient = zeros_like(logits);
        let sum = kernels::cross_entropy(&mut gradient, &slice(logits)?, classes, labels);
        Ok((mean(sum, mean_over)?, tensor(gradient, logits.shape())?))
    }

    fn lm_loss(
        &self,
        states: &Tensor,
        table: &Tensor,
        next: &[u32],
        mean_over: usize,
        trained: bool,
    ) -> Result<LmLoss> {
        let mut dhidden = zeros_like(states);
        let mut dweight = trained.then(|| zeros_like(table));
        let gradients = kernels::LmGradients {
            dhidden: &mut dhidden,
            dweight: dweight.as_deref_mut(),
            scale: 1.0 / mean_over as f32,
        };
        let hidden = slice(states)?;
        let total = with_numbers(table, |table| {
            kernels::linear_cross_entropy(gradients, &hidden, table, next, LM_LOSS_CHUNK)
        })?;
        Ok(LmLoss {
            loss: mean(total.sum, mean_over)?,
            correct: total.correct,
            dstates: tensor(dhidden, states.shape())?,
            dtable: dweight.map(|dw| tensor(dw, table.shape())).transpose()?,
        })
    }

    fn lm_loss_forward(
        &self,
        states: &Tensor,
        table: &Tensor,
        next: &[u32],
        mean_over: usize,
    ) -> Result<(Tensor, Vec<TargetLoss>)> {
        let mut each = vec![TargetLoss::default(); next.len()];
        let hidden = slice(states)?;
        let total = with_numbers(table, |table| {
            kernels::linear_cross_entropy_forward(&mut each, &hidden, table, next, LM_LOSS_CHUNK)
        })?;
        Ok((mean(total.sum, mean_over)?, each))
    }

    fn sums_of_squares(&self, tensors: &[&Tensor]) -> Result<Vec<f64>> {
        let sum = |tensor: &&Tensor| Ok(kernels::sum_of_squares(&slice(tensor)?));
        tensors.iter().map(sum).collect()
    }

    fn adamw(&self, parameter: Optimized<'_>, adamw: AdamW, update: Update) -> Result<()> {
        let Optimized {
            value,
            gradient,
            m,
            v,
        } = parameter;
        let gradient = slice(gradient)?;
        write_all([value, m, v], |[value, m, v]| {
            let parameter = kernels::Parameter {
                value,
                gradient: &gradient,
                m,
                v,
            };
            adamw.update(parameter, update);
        })
    }
}

/// A sum as a mean, on the device.
fn mean(sum: f64, over: usize) -> Result<Tensor> {
    tensor(vec![(sum / over as f64) as f32], ())
}

/// Turns heads in place.
fn turn(
    x: Tensor,
    angles: &RopeAngles,
    positions: &[u32],
    kernel: impl FnOnce(&mut [f32], &kernels::RopeTable<'_>, &[u32], usize, usize),
) -> Result<Tensor> {
    let (_, width) = x.dims2()?;
    let (dim, heads) = (angles.head_dim(), width / angles.head_dim());
    let (cos, sin) = (slice(&angles.cos)?, slice(&angles.sin)?);
    let table = kernels::RopeTable {
        cos: &cos,
        sin: &sin,
    };
    in_place(x, |x| kernel(x, &table, positions, heads, dim))
}
