use candle_core::{D, DType, Tensor};
use taper_kernels as kernels;

use crate::{
    Result,
    param::Param,
    tape::{Path, Tape, Value, slice, with_weight},
};

/// Rows of logits over a vocabulary that are in memory at a time.
const CHUNK: usize = 128;

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
    if let Some(counter) = &tape.counter {
        return counter.cross_entropy(tape, logits);
    }
    let data = slice(&logits.tensor)?;
    let mut gradient = vec![0.0; data.len()];
    let (_, classes) = logits.tensor.dims2()?;
    let sum = kernels::cross_entropy(&mut gradient, &data, classes, labels);
    let loss = vec![(sum / mean_over as f64) as f32];
    if !tape.records(&[logits], false) {
        return Tape::constant(loss, ());
    }
    let logits = logits.place();
    tape.record(loss, (), move |flow, dy| {
        kernels::scale(&mut gradient, dy[0] / mean_over as f32);
        flow.add(logits, gradient);
        Ok(())
    })
}

/// The loss of some tokens.
pub(crate) struct TokenLoss {
    /// Their sum divided by what the mean is over.
    pub(crate) loss: Value,
    /// Tokens that had the largest logit.
    pub(crate) correct: u64,
    /// Of each token; only where nothing is recorded.
    pub(crate) each: Vec<kernels::TargetLoss>,
}

/// The cross-entropy of `states · tableᵀ` with the tokens that come next, summed and divided by `mean_over`. States are
/// `[rows, hidden]`, the table is `[vocabulary, hidden]`; the logits are never in memory as a whole. Keeps the gradients themselves.
pub(crate) fn lm_loss(
    tape: &Tape,
    states: &Value,
    table: &Param,
    next: &[u32],
    mean_over: usize,
) -> Result<TokenLoss> {
    if tape.path == Path::Composed {
        let logits = composed_logits(states, table)?;
        return composed_tokens(&logits, next, mean_over);
    }
    if let Some(counter) = &tape.counter {
        return Ok(TokenLoss {
            loss: counter.lm_loss(tape, states, table, CHUNK)?,
            correct: 0,
            each: Vec::new(),
        });
    }
    let hidden = slice(&states.tensor)?;
    let id = tape.slot(table);
    if !tape.records(&[states], id.is_some()) {
        let mut each = vec![kernels::TargetLoss::default(); next.len()];
        let total = with_weight(&table.tensor, |table| {
            kernels::linear_cross_entropy_forward(&mut each, &hidden, table, next, CHUNK)
        })?;
        let loss = Tape::constant(vec![(total.sum / mean_over as f64) as f32], ())?;
        return Ok(TokenLoss {
            loss,
            correct: total.correct,
            each,
        });
    }
    let mut dhidden = vec![0.0; hidden.len()];
    let mut dweight = id.map(|_| vec![0.0; table.tensor.elem_count()]);
    let gradients = kernels::LmGradients {
        dhidden: &mut dhidden,
        dweight: dweight.as_deref_mut(),
        scale: 1.0 / mean_over as f32,
    };
    let total = with_weight(&table.tensor, |table| {
        kernels::linear_cross_entropy(gradients, &hidden, table, next, CHUNK)
    })?;
    let states = states.place();
    let loss = tape.record(
        vec![(total.sum / mean_over as f64) as f32],
        (),
        move |flow, dy| {
            if let Some((id, mut dweight)) = id.zip(dweight) {
                kernels::scale(&mut dweight, dy[0]);
                flow.add_param(id, dweight);
            }
            kernels::scale(&mut dhidden, dy[0]);
            flow.add(states, dhidden);
            Ok(())
        },
    )?;
    Ok(TokenLoss {
        loss,
        correct: total.correct,
        each: Vec::new(),
    })
}

/// `states · tableᵀ`, the logits of a few rows over the whole vocabulary; without backward.
pub(crate) fn lm_logits(tape: &Tape, states: &Value, table: &Param) -> Result<Tensor> {
    if tape.path == Path::Composed {
        return composed_logits(states, table);
    }
    let ((rows, hidden), (vocabulary, _)) = (states.tensor.dims2()?, table.tensor.dims2()?);
    let x = slice(&states.tensor)?;
    let mut logits = vec![0.0; rows * vocabulary];
    with_weight(&table.tensor, |table| {
        let x = kernels::View::new(&x, rows, hidden);
        let table = kernels::View::of(table, vocabulary, hidden);
        kernels::matmul(&mut logits, false, 1.0, x, table.t());
    })?;
    Ok(Tensor::from_vec(
        logits,
        (rows, vocabulary),
        states.tensor.device(),
    )?)
}

fn composed_logits(states: &Value, table: &Param) -> Result<Tensor> {
    let table = table.tensor.to_dtype(DType::F32)?;
    Ok(states.tensor.matmul(&table.t()?)?)
}

/// The loss of each row, `[rows]`.
fn composed_each(logits: &Tensor, labels: &[u32]) -> Result<Tensor> {
    let labels = Tensor::from_slice(labels, (labels.len(), 1), logits.device())?;
    let log_probabilities = candle_nn::ops::log_softmax(logits, D::Minus1)?;
    Ok(log_probabilities.gather(&labels, 1)?.squeeze(1)?.neg()?)
}

fn composed(logits: &Tensor, labels: &[u32], mean_over: usize) -> Result<Value> {
    let sum = composed_each(logits, labels)?.sum_all()?;
    Ok(Value::constant((sum * (1.0 / mean_over as f64))?))
}

fn composed_tokens(logits: &Tensor, next: &[u32], mean_over: usize) -> Result<TokenLoss> {
    let each = composed_each(logits, next)?;
    let loss = Value::constant((each.sum_all()? * (1.0 / mean_over as f64))?);
    let found: Vec<u32> = logits.argmax(D::Minus1)?.to_vec1()?;
    let losses: Vec<f32> = each.to_vec1()?;
    let target = |(loss, (found, next)): (f32, (&u32, &u32))| kernels::TargetLoss {
        loss,
        correct: found == next,
    };
    let each: Vec<_> = losses
        .into_iter()
        .zip(found.iter().zip(next))
        .map(target)
        .collect();
    Ok(TokenLoss {
        loss,
        correct: each.iter().filter(|target| target.correct).count() as u64,
        each,
    })
}
