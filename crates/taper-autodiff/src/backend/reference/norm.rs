use candle_core::{D, Result, Tensor};

use super::{
    super::{NormSums, Normalization, Normalized, Normed},
    dropout, vjp,
};
use crate::backend::Dropout;

/// Pieces of the length of gamma, centred where there is a beta; their mean, and the reciprocal of their spread.
fn centred(x: &Tensor, norm: Normalization<'_>) -> Result<(Tensor, Option<Tensor>, Tensor)> {
    let x = x.reshape(((), norm.gamma.elem_count()))?;
    let (x, mean) = match norm.beta {
        Some(_) => {
            let mean = x.mean_keepdim(D::Minus1)?;
            (x.broadcast_sub(&mean)?, Some(mean))
        }
        None => (x, None),
    };
    let spread = (x.sqr()?.mean_keepdim(D::Minus1)? + f64::from(norm.eps))?.sqrt()?;
    Ok((x, mean, spread.recip()?))
}

fn normalize(x: &Tensor, norm: Normalization<'_>) -> Result<Tensor> {
    let (centred, _, reciprocal) = centred(x, norm)?;
    let scaled = centred
        .broadcast_mul(&reciprocal)?
        .broadcast_mul(norm.gamma)?;
    let shifted = match norm.beta {
        Some(beta) => scaled.broadcast_add(beta)?,
        None => scaled,
    };
    shifted.reshape(x.shape())
}

pub(crate) fn norm(x: &Tensor, norm: Normalization<'_>) -> Result<Normed> {
    let (_, mean, reciprocal) = centred(x, norm)?;
    let stats = match mean {
        Some(mean) => Tensor::cat(&[mean, reciprocal], 1)?,
        None => reciprocal,
    };
    Ok(Normed {
        y: normalize(x, norm)?,
        stats,
    })
}

pub(crate) fn add_norm(
    branch: Tensor,
    mask: Dropout,
    residual: &Tensor,
    parameters: Normalization<'_>,
) -> Result<(Tensor, Normed)> {
    let sum = (dropout(&branch, mask)? + residual)?;
    let normed = norm(&sum, parameters)?;
    Ok((sum, normed))
}

pub(crate) fn norm_backward(
    dy: &Tensor,
    saved: Normalized<'_>,
    norm: Normalization<'_>,
    sums: NormSums,
) -> Result<(Tensor, NormSums)> {
    let add = |sum: Option<Tensor>, more: &Tensor| sum.map(|sum| sum + more).transpose();
    let Some(beta) = norm.beta else {
        let [dx, dgamma] = vjp([saved.x, norm.gamma], dy, |[x, gamma]| {
            normalize(x, Normalization { gamma, ..norm })
        })?;
        let gamma = add(sums.gamma, &dgamma)?;
        return Ok((dx, NormSums { gamma, beta: None }));
    };
    let [dx, dgamma, dbeta] = vjp([saved.x, norm.gamma, beta], dy, |[x, gamma, beta]| {
        let beta = Some(beta);
        normalize(
            x,
            Normalization {
                gamma,
                beta,
                ..norm
            },
        )
    })?;
    let sums = NormSums {
        gamma: add(sums.gamma, &dgamma)?,
        beta: add(sums.beta, &dbeta)?,
    };
    Ok((dx, sums))
}
