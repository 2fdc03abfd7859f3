//! A run that waits at a step until others are as far.

use taper_core::{RunSpec, Stop};

use super::Trainer;
use crate::{Error, Result, export::validation_rows};

impl Trainer<'_> {
    pub(super) fn is_at_rung(&self) -> bool {
        let rung = self.run.pause_at_step;
        rung.is_some_and(|rung| self.progress.step >= rung)
    }

    /// What the weights make of each validation row, if the run waits here for others and has been evaluated.
    pub(super) fn rows_of_rung(&self) -> Option<String> {
        let (step, evaluation) = self.last_evaluation.as_ref()?;
        let here = self.is_at_rung() && *step == self.progress.step;
        here.then(|| validation_rows(evaluation, self.data.classes.names()))
    }

    /// Ends the run for now, with a checkpoint that says what its weights make of each validation row.
    pub(super) fn wait_at_rung(&mut self) -> Error {
        match self.keep_rung() {
            Ok(()) => Stop::Reached.into(),
            Err(error) => error,
        }
    }

    /// The loop has left a checkpoint at this step. It has no rows where a pause came into the evaluation before it.
    fn keep_rung(&mut self) -> Result<()> {
        self.settle_checkpoint()?;
        let step = self.progress.step;
        let rows = self.run.checkpoint_dir(step).join(RunSpec::VALIDATION_ROWS);
        if self.data.validation.is_some() && !rows.is_file() {
            if self.rows_of_rung().is_none() {
                self.evaluate()?;
            }
            self.keeper.kept.retain(|kept| kept != step);
        }
        self.save()?;
        self.settle_checkpoint()
    }
}
