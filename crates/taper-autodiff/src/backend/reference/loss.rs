use candle_core::{D, DType, Result, Tensor};
use taper_kernels::TargetLoss;

use super::{super::LmLoss, vjp, vjp1};

/// The loss of each row, `[rows]`.
fn each(logits: &Tensor, labels: &[u32]) -> Result<Tensor> {
    let labels = Tensor::from_slice(labels, (labels.len(), 1), logits.device())?;
    let log_probabilities = candle_nn::ops::log_softmax(logits, D::Minus1)?;
    log_probabilities.gather(&labels, 1)?.squeeze(1)?.neg()
}

/// The gradient of a result that is the loss itself.
fn one(like: &Tensor) -> Result<Tensor> {
    Tensor::ones((), DType::F32, like.device())
}

pub(crate) fn cross_entropy(
    logits: &Tensor,
    labels: &[u32],
    mean_over: usize,
) -> Result<(Tensor, Tensor)> {
    let sum = |logits: &Tensor| each(logits, labels)?.sum_all();
    let gradient = vjp1(logits, &one(logits)?, sum)?;
    Ok(((sum(logits)? * (1.0 / mean_over as f64))?, gradient))
}

fn logits(states: &Tensor, table: &Tensor) -> Result<Tensor> {
    states.matmul(&table.t()?)
}

pub(crate) fn lm_loss(
    states: &Tensor,
    table: &Tensor,
    next: &[u32],
    mean_over: usize,
    trained: bool,
) -> Result<LmLoss> {
    let (loss, found) = lm_loss_forward(states, table, next, mean_over)?;
    let table = &table.to_dtype(DType::F32)?;
    let mean = |states: &Tensor, table: &Tensor| {
        let sum = each(&logits(states, table)?, next)?.sum_all()?;
        sum * (1.0 / mean_over as f64)
    };
    let one = one(states)?;
    let (dstates, dtable) = if trained {
        let [dstates, dtable] = vjp([states, table], &one, |[states, table]| mean(states, table))?;
        (dstates, Some(dtable))
    } else {
        (vjp1(states, &one, |states| mean(states, table))?, None)
    };
    Ok(LmLoss {
        loss,
        correct: found.iter().filter(|target| target.correct).count() as u64,
        dstates,
        dtable,
    })
}

pub(crate) fn lm_loss_forward(
    states: &Tensor,
    table: &Tensor,
    next: &[u32],
    mean_over: usize,
) -> Result<(Tensor, Vec<TargetLoss>)> {
    let logits = logits(states, &table.to_dtype(DType::F32)?)?;
    let each = each(&logits, next)?;
    let loss = (each.sum_all()? * (1.0 / mean_over as f64))?;
    let found: Vec<u32> = logits.argmax(D::Minus1)?.to_vec1()?;
    let losses: Vec<f32> = each.to_vec1()?;
    let target = |(loss, (found, next)): (f32, (&u32, &u32))| TargetLoss {
        loss,
        correct: found == next,
    };
    let targets = losses.into_iter().zip(found.iter().zip(next));
    Ok((loss, targets.map(target).collect()))
}
