use candle_core::{D, Tensor};
use taper_kernels as kernels;

use crate::{
    Result,
    tape::{Path, Tape, Value, slice},
};

/// The cross-entropy of logits `[rows, classes]` with the rows' classes, summed and divided by `mean_over`: the rows of the whole
/// optimizer step, so that gradients of several batches add up to those of one.
pub(crate) fn cross_entropy(
    tape: &Tape,
    logits: &Value,
    labels: &[u32],
    mean_over: usize,
) -> Result<Value> {
    if tape.path == Path::Composed {
        return composed(&logits.tensor, labels, mean_over);
    }
    let data = slice(&logits.tensor)?;
    let mut gradient = vec![0.0; data.len()];
    let (_, classes) = logits.tensor.dims2()?;
    let sum = kernels::cross_entropy(&mut gradient, &data, classes, labels);
    let loss = vec![(sum / mean_over as f64) as f32];
    if !tape.records(&[logits], &[]) {
        return Tape::constant(loss, ());
    }
    let logits = logits.clone();
    tape.record(loss, (), move |flow, dy| {
        kernels::scale(&mut gradient, dy[0] / mean_over as f32);
        flow.add(&logits, gradient);
        Ok(())
    })
}

fn composed(logits: &Tensor, labels: &[u32], mean_over: usize) -> Result<Value> {
    let labels = Tensor::from_slice(labels, (labels.len(), 1), logits.device())?;
    let log_probabilities = candle_nn::ops::log_softmax(logits, D::Minus1)?;
    let sum = log_probabilities.gather(&labels, 1)?.sum_all()?;
    Ok(Value::constant((sum * (-1.0 / mean_over as f64))?))
}
