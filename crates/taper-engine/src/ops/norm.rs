use candle_core::D;
use taper_kernels as kernels;

use super::Dropout;
use crate::{
    Result,
    param::Param,
    tape::{Flow, Path, Tape, Value, slice, take},
};

/// Layer normalisation over the last dimension.
pub(crate) struct LayerNorm {
    pub(crate) gamma: Param,
    pub(crate) beta: Param,
    pub(crate) eps: f32,
}

/// Normalises every row; keeps its input, and mean and spread of each row.
pub(crate) fn layer_norm(tape: &Tape, x: &Value, norm: &LayerNorm) -> Result<Value> {
    if tape.path == Path::Composed {
        return composed(&x.tensor, norm);
    }
    let data = slice(&x.tensor)?;
    let (mut y, mut stats) = (vec![0.0; data.len()], vec![0.0; 2 * x.rows()?]);
    let (gamma, beta) = (slice(&norm.gamma.tensor)?, slice(&norm.beta.tensor)?);
    kernels::layer_norm(
        &mut y,
        &mut stats,
        &data,
        kernels::LayerNorm {
            gamma: &gamma,
            beta: &beta,
            eps: norm.eps,
        },
    );
    let shape = x.tensor.shape().clone();
    if !tape.records(&[x], &[&norm.gamma, &norm.beta]) {
        return Tape::constant(y, shape);
    }
    let (x, gamma, beta) = (x.clone(), norm.gamma.clone(), norm.beta.clone());
    tape.record(y, shape, move |flow, dy| {
        let dx = backward(flow, &dy, &slice(&x.tensor)?, &stats, (&gamma, &beta))?;
        flow.add(&x, dx);
        Ok(())
    })
}

/// `layer_norm(dropout(branch) + residual)`, the end of a post-norm block, in one pass; keeps the sum, in the branch's own memory.
///
/// The branch's values are used up: nothing else may hold its tensor.
pub(crate) fn add_layer_norm(
    tape: &Tape,
    branch: Value,
    dropout: Dropout,
    residual: Value,
    norm: &LayerNorm,
) -> Result<Value> {
    if tape.path == Path::Composed {
        return composed(
            &(dropout.composed(&branch.tensor)? + &residual.tensor)?,
            norm,
        );
    }
    let shape = branch.tensor.shape().clone();
    let mut sum = take(&branch)?;
    let (mut y, mut stats) = (vec![0.0; sum.len()], vec![0.0; 2 * residual.rows()?]);
    let (gamma, beta) = (slice(&norm.gamma.tensor)?, slice(&norm.beta.tensor)?);
    {
        let added = kernels::Residual {
            values: &slice(&residual.tensor)?,
            dropout: dropout.kernel(),
        };
        kernels::add_layer_norm(
            &mut y,
            &mut stats,
            &mut sum,
            added,
            kernels::LayerNorm {
                gamma: &gamma,
                beta: &beta,
                eps: norm.eps,
            },
        );
    }
    if !tape.records(&[&branch, &residual], &[&norm.gamma, &norm.beta]) {
        return Tape::constant(y, shape);
    }
    let (gamma, beta) = (norm.gamma.clone(), norm.beta.clone());
    tape.record(y, shape, move |flow, dy| {
        let mut dx = backward(flow, &dy, &sum, &stats, (&gamma, &beta))?;
        if branch.needs_gradient() {
            flow.add(&residual, dx.clone());
            dropout.apply_in_place(&mut dx);
            flow.add(&branch, dx);
        } else {
            flow.add(&residual, dx);
        }
        Ok(())
    })
}

fn backward(
    flow: &mut Flow<'_>,
    dy: &[f32],
    x: &[f32],
    stats: &[f32],
    (gamma, beta): (&Param, &Param),
) -> Result<Vec<f32>> {
    let mut dx = vec![0.0; dy.len()];
    let gradients = gamma
        .id
        .zip(beta.id)
        .and_then(|(gamma, beta)| flow.param_pair(gamma, beta));
    kernels::layer_norm_backward(
        &mut dx,
        gradients,
        dy,
        kernels::Normalised { x, stats },
        &slice(&gamma.tensor)?,
    );
    Ok(dx)
}

fn composed(x: &candle_core::Tensor, norm: &LayerNorm) -> Result<Value> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let normed = centred.broadcast_div(&(variance + f64::from(norm.eps))?.sqrt()?)?;
    Ok(Value::constant(
        normed
            .broadcast_mul(&norm.gamma.tensor)?
            .broadcast_add(&norm.beta.tensor)?,
    ))
}
