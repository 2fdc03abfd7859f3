//! A call of each function of [`Backend`], with inputs of its own.

mod calls;
mod inputs;

use candle_core::{Result, Tensor};

use super::{numbers, random};
use crate::{Backend, ops::Dropout};
use calls::*;
use inputs::*;

/// Rows, widths of inputs and of outputs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    rows: usize,
    inputs: usize,
    outputs: usize,
}

/// No multiples of anything; the last has more rows than a chunk of logits.
pub(super) const SIZES: [Size; 4] = [
    size(1, 1, 2),
    size(5, 7, 3),
    size(37, 19, 23),
    size(131, 67, 41),
];

const fn size(rows: usize, inputs: usize, outputs: usize) -> Size {
    Size {
        rows,
        inputs,
        outputs,
    }
}

/// The results of a call.
type Case = fn(&dyn Backend, Size) -> Result<Vec<Tensor>>;

pub(super) const CASES: &[(&str, Case)] = &[
    ("zeros", |b, s| {
        Ok(vec![b.zeros(&(s.rows, s.inputs).into())?])
    }),
    ("copy", |b, s| Ok(vec![b.copy(&x(s))?])),
    ("add_assign", |b, s| Ok(vec![b.add_assign(x(s), &more(s))?])),
    ("scale", |b, s| {
        Ok(vec![b.scale(x(s), &random(3, ()), 7.0)?])
    }),
    ("matmul", matmul),
    ("linear", linear),
    ("linear_backward_input", linear_backward_input),
    ("linear_backward_weight", linear_backward_weight),
    ("linear_backward_bias", |b, s| {
        Ok(vec![b.linear_backward_bias(random(3, s.outputs), &dy(s))?])
    }),
    ("attention", attention),
    ("attention_backward", attention_backward),
    ("norm", norm),
    ("add_norm", add_norm),
    ("norm_backward", norm_backward),
    ("activation", activation),
    ("activation_backward", activation_backward),
    ("silu_mul", |b, s| Ok(vec![b.silu_mul(&x(s), &more(s))?])),
    ("silu_mul_backward", |b, s| {
        Ok(
            b.silu_mul_backward(&random(4, (s.rows, s.inputs)), &x(s), &more(s))?
                .to_vec(),
        )
    }),
    ("rope", rope),
    ("rope_backward", rope_backward),
    ("embedding", embedding),
    ("add_embedding", add_embedding),
    ("embedding_backward", |b, s| {
        let (table, ids) = (random(3, (s.inputs, s.outputs)), numbers(s.rows, s.inputs));
        Ok(vec![b.embedding_backward(table, &dy(s), &ids)?])
    }),
    ("prepend", |b, s| {
        let prompt = random(3, (3, s.inputs));
        Ok(vec![b.prepend(&x(s), &prompt, &offsets(s))?])
    }),
    ("prepend_backward", |b, s| {
        Ok(vec![b.prepend_backward(&behind(s), 3, &offsets(s))?])
    }),
    ("prepend_backward_prompt", |b, s| {
        let dprompt = random(3, (3, s.inputs));
        Ok(vec![b.prepend_backward_prompt(
            dprompt,
            &behind(s),
            &offsets(s),
        )?])
    }),
    ("select_rows", |b, s| {
        Ok(vec![b.select_rows(&x(s), &picked(s))?])
    }),
    ("select_rows_backward", |b, s| {
        let dy = random(3, (picked(s).len(), s.inputs));
        Ok(vec![b.select_rows_backward(&dy, &picked(s), s.rows)?])
    }),
    ("select_columns", |b, s| {
        let (x, columns) = columns(s);
        Ok(vec![b.select_columns(&x, columns)?])
    }),
    ("select_columns_backward", |b, s| {
        let (x, columns) = columns(s);
        let alone = b.select_columns_backward(None, &dy(s), columns)?;
        Ok(vec![
            alone,
            b.select_columns_backward(Some(x), &dy(s), columns)?,
        ])
    }),
    ("dropout", |b, s| Ok(vec![b.dropout(&x(s), dropped())?])),
    ("dropout_in_place", |b, s| {
        Ok(vec![b.dropout_in_place(x(s), dropped())?])
    }),
    ("add", |b, s| {
        let with = |dropout| b.add(&x(s), more(s), dropout);
        Ok(vec![with(Dropout::OFF)?, with(dropped())?])
    }),
    ("cross_entropy", |b, s| {
        let labels = numbers(s.rows, s.outputs);
        let (loss, gradient) = b.cross_entropy(&dy(s), &labels, 2 * s.rows)?;
        Ok(vec![loss, gradient])
    }),
    ("lm_loss", lm_loss),
    ("lm_loss_forward", lm_loss_forward),
    ("sums_of_squares", |b, s| {
        let sums = b.sums_of_squares(&[&x(s), &dy(s)])?;
        let sums: Vec<f32> = sums.into_iter().map(|sum| sum as f32).collect();
        Ok(vec![Tensor::from_vec(sums, 2, b.device())?])
    }),
    ("adamw", adamw),
];
