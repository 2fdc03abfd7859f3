use candle_core::{Result, Tensor};

use super::Dropout;
use crate::{
    backend::{NormSums, Normalization, Normalized},
    param::{Param, ParamId},
    tape::{GradientSink, Tape, Value},
};

/// A normalisation over rows of the length of `gamma`: of a whole row of a matrix, or of each of the pieces it divides into.
#[derive(Clone)]
pub struct Norm {
    pub gamma: Param,
    /// With it the mean is taken off too (layer norm); without it rows are divided by their root mean square.
    pub beta: Option<Param>,
    pub eps: f32,
}

impl Norm {
    fn parameters(&self) -> Normalization<'_> {
        Normalization {
            gamma: &self.gamma.tensor,
            beta: self.beta.as_ref().map(|beta| &beta.tensor),
            eps: self.eps,
        }
    }

    /// Where the gradients of gamma and beta go in this pass.
    fn slots(&self, tape: &Tape) -> Slots {
        Slots {
            gamma: tape.slot(&self.gamma),
            beta: self.beta.as_ref().and_then(|beta| tape.slot(beta)),
        }
    }

    /// Gives the gradients of gamma and beta to the sink and returns that of the input `x`.
    fn backward(
        &self,
        sink: &mut GradientSink<'_>,
        slots: Slots,
        dy: &Tensor,
        saved: Normalized<'_>,
    ) -> Result<Tensor> {
        let mut take = |id: Option<ParamId>| id.map(|id| sink.take_param(id)).transpose();
        let sums = NormSums {
            gamma: take(slots.gamma)?,
            beta: take(slots.beta)?,
        };
        let (dx, sums) = sink
            .backend
            .norm_backward(dy, saved, self.parameters(), sums)?;
        for (id, sum) in [(slots.gamma, sums.gamma), (slots.beta, sums.beta)] {
            if let Some((id, sum)) = id.zip(sum) {
                sink.put_param(id, sum);
            }
        }
        Ok(dx)
    }
}

#[derive(Clone, Copy)]
struct Slots {
    gamma: Option<ParamId>,
    beta: Option<ParamId>,
}

impl Slots {
    fn trains(self) -> bool {
        self.gamma.is_some() || self.beta.is_some()
    }
}

/// Normalises; keeps its input, from which the result is recomputed where a backward needs it, and one or two numbers a row.
pub fn norm(tape: &Tape, x: &Value, norm: &Norm) -> Result<Value> {
    let normed = tape.backend().norm(&x.tensor, norm.parameters())?;
    let slots = norm.slots(tape);
    if !tape.records(&[x], slots.trains()) {
        return Ok(Value::constant(normed.y));
    }
    let (x, node, stats) = (x.tensor.clone(), x.node(), normed.stats);
    let (input, again, norm) = (x.clone(), norm.clone(), norm.clone());
    let value = tape.record(normed.y, move |sink, dy| {
        let saved = Normalized {
            x: &x,
            stats: &stats,
        };
        let dx = norm.backward(sink, slots, &dy, saved)?;
        sink.add(node, dx)
    });
    Ok(value.recomputed_by(move |backend| Ok(backend.norm(&input, again.parameters())?.y)))
}

/// `layer_norm(dropout(branch) + residual)`, the end of a post-norm block, in one pass; keeps the sum, in the branch's own memory.
///
/// The branch's values are used up: nothing else may hold its tensor.
pub fn add_layer_norm(
    tape: &Tape,
    branch: Value,
    dropout: Dropout,
    residual: Value,
    norm: &Norm,
) -> Result<Value> {
    let slots = norm.slots(tape);
    let recorded = tape.records(&[&branch, &residual], slots.trains());
    let (branch_node, residual_node) = (branch.node(), residual.node());
    let (sum, normed) =
        tape.backend()
            .add_norm(branch.tensor, dropout, &residual.tensor, norm.parameters())?;
    if !recorded {
        return Ok(Value::constant(normed.y));
    }
    let (norm, stats) = (norm.clone(), normed.stats);
    Ok(tape.record(normed.y, move |sink, dy| {
        let saved = Normalized {
            x: &sum,
            stats: &stats,
        };
        let dsum = norm.backward(sink, slots, &dy, saved)?;
        sink.add_both(residual_node, branch_node, dropout, dsum)
    }))
}
