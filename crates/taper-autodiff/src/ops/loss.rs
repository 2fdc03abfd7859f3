use candle_core::{Result, Tensor};
use taper_kernels::TargetLoss;

use crate::{
    backend::Matrix,
    param::Param,
    tape::{Tape, Value},
};

/// The cross-entropy of logits `[rows, classes]` with the rows' classes, summed and divided by `mean_over`: the rows of the whole
/// optimizer step, so that gradients of several batches add up to those of one. Keeps the gradient itself.
pub fn cross_entropy(
    tape: &Tape,
    logits: &Value,
    labels: &[u32],
    mean_over: usize,
) -> Result<Value> {
    let (loss, gradient) = tape
        .backend()
        .cross_entropy(&logits.tensor, labels, mean_over)?;
    if !tape.records(&[logits], false) {
        return Ok(Value::constant(loss));
    }
    let logits = logits.node();
    Ok(tape.record(loss, move |sink, dy| {
        let gradient = sink.backend.scale(gradient, &dy, mean_over as f32)?;
        sink.add(logits, gradient)
    }))
}

/// The loss of some tokens.
pub struct TokenLoss {
    /// Their sum divided by what the mean is over.
    pub loss: Value,
    /// Tokens that had the largest logit.
    pub correct: u64,
    /// Of each token; only where nothing is recorded.
    pub each: Vec<TargetLoss>,
}

/// The cross-entropy of `states · tableᵀ` with the tokens that come next, summed and divided by `mean_over`. States are
/// `[rows, hidden]`, the table is `[vocabulary, hidden]`; the logits need not be in memory as a whole. Keeps the gradients themselves.
pub fn lm_loss(
    tape: &Tape,
    states: &Value,
    table: &Param,
    next: &[u32],
    mean_over: usize,
) -> Result<TokenLoss> {
    let (backend, id) = (tape.backend(), tape.slot(table));
    let (x, table) = (&states.tensor, &table.tensor);
    if !tape.records(&[states], id.is_some()) {
        let (loss, each) = backend.lm_loss_forward(x, table, next, mean_over)?;
        return Ok(TokenLoss {
            loss: Value::constant(loss),
            correct: each.iter().filter(|target| target.correct).count() as u64,
            each,
        });
    }
    let found = backend.lm_loss(x, table, next, mean_over, id.is_some())?;
    let (states, dstates, dtable) = (states.node(), found.dstates, found.dtable);
    let loss = tape.record(found.loss, move |sink, dy| {
        let backend = sink.backend;
        if let Some((id, dtable)) = id.zip(dtable) {
            sink.add_param(id, backend.scale(dtable, &dy, 1.0)?)?;
        }
        sink.add(states, backend.scale(dstates, &dy, 1.0)?)
    });
    Ok(TokenLoss {
        loss,
        correct: found.correct,
        each: Vec::new(),
    })
}

/// `states · tableᵀ`, the logits of a few rows over the whole vocabulary; without backward.
pub fn lm_logits(tape: &Tape, states: &Value, table: &Param) -> Result<Tensor> {
    let (states, table) = (Matrix::new(&states.tensor), Matrix::new(&table.tensor));
    tape.backend().matmul(None, 1.0, states, table.t())
}
