use candle_core::{DType, Result, Tensor};
use taper_kernels::{AdamW, Update};

use super::super::Optimized;

pub(crate) fn sums_of_squares(tensors: &[&Tensor]) -> Result<Vec<f64>> {
    let sum = |tensor: &&Tensor| {
        tensor
            .to_dtype(DType::F64)?
            .sqr()?
            .sum_all()?
            .to_scalar::<f64>()
    };
    tensors.iter().map(sum).collect()
}

/// In PyTorch's order: decay, moments, step.
pub(crate) fn adamw(parameter: Optimized<'_>, adamw: AdamW, update: Update) -> Result<()> {
    let AdamW { beta1, beta2, eps } = adamw;
    let gradient = (parameter.gradient * update.gradient_scale)?;
    let m = ((parameter.m * beta1)? + (&gradient * (1.0 - beta1))?)?;
    let v = ((parameter.v * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
    let steps = update.step as i32;
    let (correction1, correction2) = (1.0 - beta1.powi(steps), 1.0 - beta2.powi(steps));
    let denominator = ((v.sqrt()? / correction2.sqrt())? + eps)?;
    let kept = (parameter.value * (1.0 - update.learning_rate * update.weight_decay))?;
    let change = ((&m / denominator)? * (update.learning_rate / correction1))?;
    let value = (kept - change)?;
    for (target, new) in [(parameter.value, value), (parameter.m, m), (parameter.v, v)] {
        target.slice_set(&new, 0, 0)?;
    }
    Ok(())
}
