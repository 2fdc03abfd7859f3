//! A gradient of zeros at a parameter's first step: a defect of the engine, or mathematics? A finite difference tells. The softmax of a
//! saturated model has exact zeros, and below a layer of zeros nothing has a gradient; then the loss does not move with the parameter.

use taper_autodiff::{ParamId, assign};

use super::TrainingLoop;
use crate::{
    Error, Result,
    data::Batch,
    models::{DropoutRng, Pass},
    random::Stream,
    tape::Tape,
    tasks::task,
};

/// Step of the finite difference, in root mean squares of the parameter's values.
const STEP: f64 = 1e-2;
/// What is taken for the root mean square of values that are nearly zero.
const SMALLEST: f64 = 1e-3;
/// Relative difference of two losses that is taken for rounding.
const ROUNDING: f64 = 1e-6;

impl TrainingLoop<'_> {
    /// Proves that the gradients of `zeros` are rightly zero on these micro-batches, so that they are not asked for again.
    ///
    /// # Errors
    /// A parameter on which the loss does depend.
    pub(super) fn prove_zeros(
        &mut self,
        zeros: Vec<ParamId>,
        batches: &[Vec<usize>],
        targets: u64,
    ) -> Result<()> {
        if zeros.is_empty() {
            return Ok(());
        }
        let before = self.loss_of(batches, targets)?;
        for id in zeros {
            let moved = self.loss_moved_by(id, batches, targets)?;
            if (moved - before).abs() > ROUNDING * before.abs().max(ROUNDING) {
                return Err(Error::NoGradient {
                    name: self.model.parameters.list[id].name.clone(),
                    step: self.progress.step + 1,
                });
            }
            self.checks.proven_zero(id);
        }
        Ok(())
    }

    /// The loss with a parameter moved a little into a random direction; the parameter has its own values again afterwards.
    fn loss_moved_by(&self, id: ParamId, batches: &[Vec<usize>], targets: u64) -> Result<f64> {
        let parameter = &self.model.parameters.list[id];
        let kept: Vec<f32> = parameter.tensor.flatten_all()?.to_vec1()?;
        let squares: f64 = kept.iter().map(|x| f64::from(*x).powi(2)).sum();
        let size = (squares / kept.len().max(1) as f64).sqrt().max(SMALLEST);
        let mut direction = Stream::new(self.run.spec.training.seed, &parameter.name);
        let nudges = direction.normal(kept.len(), size * STEP);
        let moved = kept.iter().zip(nudges).map(|(x, nudge)| x + nudge);
        let nudged: Vec<f32> = moved.collect();
        assign(&parameter.tensor, nudged)?;
        let moved = self.loss_of(batches, targets);
        assign(&parameter.tensor, kept)?;
        moved
    }

    /// The loss of the step that is under way, with the same dropout; nothing is recorded.
    fn loss_of(&self, batches: &[Vec<usize>], targets: u64) -> Result<f64> {
        let training = &self.run.spec.training;
        let mut sum = 0.0;
        for (micro, rows) in batches.iter().enumerate() {
            let rng = Some(DropoutRng {
                seed: training.seed,
                pass: self.progress.step * training.gradient_accumulation_steps + micro as u64,
            });
            let tape = &Tape::idle(self.model.backend.clone());
            let batch = Batch::of(&self.data.training, rows);
            let pass = Pass { tape, rng };
            let loss = task(self.data.task).loss(&self.model, &pass, &batch, targets as usize)?;
            sum += f64::from(loss.value.tensor.to_scalar::<f32>()?);
        }
        Ok(sum)
    }
}
