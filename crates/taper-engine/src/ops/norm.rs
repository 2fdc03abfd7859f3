use candle_core::{D, Tensor};
use taper_kernels as kernels;

use super::Dropout;
use crate::{
    Result,
    param::{Param, ParamId},
    tape::{Flow, Path, Tape, Value, slice, take},
};

/// A normalisation over rows of the length of `gamma`: of a whole row of a matrix, or of each of the pieces it divides into.
#[derive(Clone)]
pub(crate) struct Norm {
    pub(crate) gamma: Param,
    /// With it the mean is taken off too (layer norm); without it rows are divided by their root mean square.
    pub(crate) beta: Option<Param>,
    pub(crate) eps: f32,
}

impl Norm {
    /// Normalises `x`; returns the result and what the backward needs of each row.
    fn forward(&self, x: &[f32]) -> Result<(Vec<f32>, Vec<f32>)> {
        let gamma = slice(&self.gamma.tensor)?;
        let rows = x.len() / gamma.len();
        let mut y = vec![0.0; x.len()];
        let mut stats = vec![0.0; if self.beta.is_some() { 2 * rows } else { rows }];
        match &self.beta {
            Some(beta) => {
                let norm = kernels::LayerNorm {
                    gamma: &gamma,
                    beta: &slice(&beta.tensor)?,
                    eps: self.eps,
                };
                kernels::layer_norm(&mut y, &mut stats, x, norm);
            }
            None => kernels::rms_norm(
                &mut y,
                &mut stats,
                x,
                kernels::RmsNorm {
                    gamma: &gamma,
                    eps: self.eps,
                },
            ),
        }
        Ok((y, stats))
    }

    fn gradient(&self, tape: &Tape) -> Gradient {
        let beta = self.beta.as_ref();
        Gradient {
            gamma: self.gamma.tensor.clone(),
            gamma_id: tape.slot(&self.gamma),
            centred: beta.is_some(),
            beta_id: beta.and_then(|beta| tape.slot(beta)),
        }
    }

    fn composed(&self, x: &Tensor) -> Result<Tensor> {
        let shape = x.shape().clone();
        let x = x.reshape(((), self.gamma.tensor.elem_count()))?;
        let centred = if self.beta.is_some() {
            x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?
        } else {
            x
        };
        let spread = (centred.sqr()?.mean_keepdim(D::Minus1)? + f64::from(self.eps))?.sqrt()?;
        let scaled = centred
            .broadcast_div(&spread)?
            .broadcast_mul(&self.gamma.tensor)?;
        let shifted = match &self.beta {
            Some(beta) => scaled.broadcast_add(&beta.tensor)?,
            None => scaled,
        };
        Ok(shifted.reshape(shape)?)
    }
}

/// What the backward of a normalisation needs beside its input.
struct Gradient {
    gamma: Tensor,
    gamma_id: Option<ParamId>,
    centred: bool,
    beta_id: Option<ParamId>,
}

impl Gradient {
    fn trains(&self) -> bool {
        self.gamma_id.is_some() || self.beta_id.is_some()
    }

    fn backward(
        &self,
        flow: &mut Flow<'_>,
        dy: &[f32],
        x: &[f32],
        stats: &[f32],
    ) -> Result<Vec<f32>> {
        let mut dx = vec![0.0; dy.len()];
        let (gamma, saved) = (slice(&self.gamma)?, kernels::Normalised { x, stats });
        if self.centred {
            let [mut dgamma, mut dbeta] = [(); 2].map(|()| vec![0.0; gamma.len()]);
            let sums = self.trains().then_some((&mut dgamma[..], &mut dbeta[..]));
            kernels::layer_norm_backward(&mut dx, sums, dy, saved, &gamma);
            for (id, sum) in [(self.gamma_id, &dgamma), (self.beta_id, &dbeta)] {
                if let Some(id) = id {
                    kernels::add_assign(flow.param(id), sum);
                }
            }
        } else {
            let gradient = self.gamma_id.map(|id| flow.param(id));
            kernels::rms_norm_backward(&mut dx, gradient, dy, saved, &gamma);
        }
        Ok(dx)
    }
}

/// Normalises; keeps its input, from which the result is made again where a backward needs it, and one or two numbers a row.
pub(crate) fn norm(tape: &Tape, x: &Value, norm: &Norm) -> Result<Value> {
    if tape.path == Path::Composed {
        return Ok(Value::constant(norm.composed(&x.tensor)?));
    }
    if let Some(counter) = &tape.counter {
        return counter.norm(tape, x, norm);
    }
    let (y, stats) = norm.forward(&slice(&x.tensor)?)?;
    let shape = x.tensor.shape().clone();
    let gradient = norm.gradient(tape);
    if !tape.records(&[x], gradient.trains()) {
        return Tape::constant(y, shape);
    }
    let (x, place, again) = (
        x.tensor.clone(),
        x.place(),
        (x.tensor.clone(), norm.clone()),
    );
    let value = tape.record(y, shape, move |flow, dy| {
        let dx = gradient.backward(flow, &dy, &slice(&x)?, &stats)?;
        flow.add(place, dx);
        Ok(())
    })?;
    Ok(value.made_by(move || {
        let (x, norm) = &again;
        Ok(norm.forward(&slice(x)?)?.0)
    }))
}

/// `layer_norm(dropout(branch) + residual)`, the end of a post-norm block, in one pass; keeps the sum, in the branch's own memory.
///
/// The branch's values are used up: nothing else may hold its tensor.
pub(crate) fn add_layer_norm(
    tape: &Tape,
    branch: Value,
    dropout: Dropout,
    residual: Value,
    norm: &Norm,
) -> Result<Value> {
    if tape.path == Path::Composed {
        let sum = (dropout.composed(&branch.tensor)? + &residual.tensor)?;
        return Ok(Value::constant(norm.composed(&sum)?));
    }
    if let Some(counter) = &tape.counter {
        return counter.add_layer_norm(tape, &branch, &residual, norm);
    }
    let Some(beta) = &norm.beta else {
        return Err(candle_core::Error::msg("a post-norm block has a layer norm").into());
    };
    let shape = branch.tensor.shape().clone();
    let mut sum = take(&branch)?;
    let (mut y, mut stats) = (vec![0.0; sum.len()], vec![0.0; 2 * residual.rows()?]);
    {
        let (gamma, beta) = (slice(&norm.gamma.tensor)?, slice(&beta.tensor)?);
        let added = kernels::Residual {
            values: &slice(&residual.tensor)?,
            dropout: dropout.kernel(),
        };
        let settings = kernels::LayerNorm {
            gamma: &gamma,
            beta: &beta,
            eps: norm.eps,
        };
        kernels::add_layer_norm(&mut y, &mut stats, &mut sum, added, settings);
    }
    let gradient = norm.gradient(tape);
    if !tape.records(&[&branch, &residual], gradient.trains()) {
        return Tape::constant(y, shape);
    }
    let (branch, residual) = (branch.place(), residual.place());
    tape.record(y, shape, move |flow, dy| {
        let mut dx = gradient.backward(flow, &dy, &sum, &stats)?;
        if branch.needs_gradient() {
            flow.add(residual, dx.clone());
            dropout.apply_in_place(&mut dx);
            flow.add(branch, dx);
        } else {
            flow.add(residual, dx);
        }
        Ok(())
    })
}
