use candle_core::{Result, Tensor};
use taper_kernels as kernels;

use super::{
    NormSums, Normalization, Normalized, Normed,
    storage::{in_place, slice, take, tensor},
    zeros_like,
};
use crate::backend::Dropout;

pub(super) fn norm(x: &Tensor, norm: Normalization<'_>) -> Result<Normed> {
    let rows = x.elem_count() / norm.gamma.elem_count();
    let (values, gamma) = (slice(x)?, slice(norm.gamma)?);
    let mut y = zeros_like(x);
    let mut stats = vec![0.0; if norm.beta.is_some() { 2 * rows } else { rows }];
    match norm.beta {
        Some(beta) => {
            let settings = kernels::LayerNorm {
                gamma: &gamma,
                beta: &slice(beta)?,
                eps: norm.eps,
            };
            kernels::layer_norm(&mut y, &mut stats, &values, settings);
        }
        None => {
            let settings = kernels::RmsNorm {
                gamma: &gamma,
                eps: norm.eps,
            };
            kernels::rms_norm(&mut y, &mut stats, &values, settings);
        }
    }
    Ok(Normed {
        y: tensor(y, x.shape())?,
        stats: tensor(stats, norm.stats_shape(rows))?,
    })
}

pub(super) fn add_norm(
    branch: Tensor,
    dropout: Dropout,
    residual: &Tensor,
    norm: Normalization<'_>,
) -> Result<(Tensor, Normed)> {
    let shape = branch.shape().clone();
    let rows = branch.elem_count() / norm.gamma.elem_count();
    let mut sum = take(branch)?;
    let mut y = vec![0.0; sum.len()];
    let mut stats = vec![0.0; if norm.beta.is_some() { 2 * rows } else { rows }];
    let (residual, gamma) = (slice(residual)?, slice(norm.gamma)?);
    let added = kernels::Residual {
        values: &residual,
        dropout: dropout.kernel(),
    };
    match norm.beta {
        Some(beta) => {
            let settings = kernels::LayerNorm {
                gamma: &gamma,
                beta: &slice(beta)?,
                eps: norm.eps,
            };
            kernels::add_layer_norm(&mut y, &mut stats, &mut sum, added, settings);
        }
        None => {
            let settings = kernels::RmsNorm {
                gamma: &gamma,
                eps: norm.eps,
            };
            kernels::add_rms_norm(&mut y, &mut stats, &mut sum, added, settings);
        }
    }
    let normed = Normed {
        y: tensor(y, &shape)?,
        stats: tensor(stats, norm.stats_shape(rows))?,
    };
    Ok((tensor(sum, shape)?, normed))
}

pub(super) fn norm_backward(
    dy: &Tensor,
    saved: Normalized<'_>,
    norm: Normalization<'_>,
    sums: NormSums,
) -> Result<(Tensor, NormSums)> {
    let mut dx = zeros_like(dy);
    let (gradient, x, stats) = (slice(dy)?, slice(saved.x)?, slice(saved.stats)?);
    let (gamma, saved) = (
        slice(norm.gamma)?,
        kernels::Normalised {
            x: &x,
            stats: &stats,
        },
    );
    let sums = if norm.beta.is_some() {
        let [mut dgamma, mut dbeta] = [(); 2].map(|()| vec![0.0; gamma.len()]);
        let wanted = sums.gamma.is_some() || sums.beta.is_some();
        let both = wanted.then_some((&mut dgamma[..], &mut dbeta[..]));
        kernels::layer_norm_backward(&mut dx, both, &gradient, saved, &gamma);
        let add = |sum: Option<Tensor>, more: &[f32]| {
            sum.map(|sum| in_place(sum, |sum| kernels::add_assign(sum, more)))
                .transpose()
        };
        NormSums {
            gamma: add(sums.gamma, &dgamma)?,
            beta: add(sums.beta, &dbeta)?,
        }
    } else {
        let mut dgamma = sums.gamma.map(take).transpose()?;
        kernels::rms_norm_backward(&mut dx, dgamma.as_deref_mut(), &gradient, saved, &gamma);
        NormSums {
            gamma: dgamma
                .map(|dgamma| tensor(dgamma, norm.gamma.shape()))
                .transpose()?,
            beta: None,
        }
    };
    Ok((tensor(dx, dy.shape())?, sums))
}
