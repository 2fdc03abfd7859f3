//! What a run leaves behind at its end: the artifacts.

use std::{fs, path::Path};

use taper_core::{CheckpointRefused, Level, Metrics, Outcome, RunEvent};

use super::{TrainingLoop, process_memory};
use crate::{
    Error, Result,
    atomic_folder::fill,
    checkpoint,
    export::{Check, Export},
};

impl TrainingLoop<'_> {
    /// Writes the artifacts of the weights that are wanted: the last, or the best.
    pub(super) fn finish(mut self) -> Result<Outcome> {
        if self.progress.window.steps > 0 {
            // The run has stopped early, between two logs.
            self.log()?;
        }
        self.save()?;
        self.settle_checkpoint()?;
        self.choose_weights()?;
        let mut metrics = self.final_metrics();
        if self.data.validation.is_none() {
            // Otherwise the last evaluation has looked.
            self.watch(&mut metrics);
        }
        let (output, trained_tokens) = (self.run.output_dir(), self.progress.tokens);
        self.export(&metrics)?;
        if let Some(bytes) = exported_bytes(&output) {
            metrics.set("adapter_bytes", bytes as f64);
        }
        Ok(Outcome {
            metrics,
            trained_tokens,
        })
    }

    /// Puts the best weights back if they are wanted, and makes sure that the last evaluation is theirs.
    fn choose_weights(&mut self) -> Result<()> {
        let mut step = self.step_of_choice();
        if step != self.progress.step && !self.put_back(step)? {
            step = self.progress.step;
        }
        let evaluated = self.last_evaluation.as_ref().map(|(step, _)| *step);
        if step != self.progress.step || evaluated != Some(step) {
            self.last_evaluation = self.evaluation()?.map(|evaluation| (step, evaluation));
        }
        Ok(())
    }

    /// Puts the weights of a step back; false when its checkpoint has been harmed since, and the run keeps those that it has.
    ///
    /// # Errors
    /// A checkpoint that cannot be read for now: a retry ends the run with the weights that are wanted.
    fn put_back(&mut self, step: u64) -> Result<bool> {
        let dir = self.run.checkpoint_dir(step);
        let parameters = &self.model.parameters;
        match checkpoint::restore_best(&self.fingerprint, &dir, parameters, self.control) {
            Err(Error::Checkpoint {
                refused: refused @ CheckpointRefused::Damaged(_),
                ..
            }) => {
                let last = self.progress.step;
                let message = format!(
                    "The weights of step {step} were the best, but its checkpoint cannot be used: {refused}; the result has those of step {last}, the last"
                );
                self.sink.event(RunEvent::Message(Level::Warn, message));
                Ok(false)
            }
            restored => restored.map(|()| true),
        }
    }

    /// The step whose weights become the artifacts. The best ones may be lost, since their checkpoint could not be kept: then the best that
    /// are there, and nothing fails that has been trained.
    fn step_of_choice(&mut self) -> u64 {
        let (last, kept) = (self.progress.step, &self.retention.kept);
        let best = self.progress.best.as_ref().map(|best| best.step);
        match best.filter(|_| self.run.spec.training.load_best_model_at_end) {
            None => last,
            Some(best) if best == last || kept.steps.contains(&best) => best,
            Some(best) => {
                let (step, which) = match kept.best {
                    Some(step) => (step, "the best that could be kept"),
                    None => (last, "the last"),
                };
                let message = format!(
                    "The weights of step {best} were the best, but its checkpoint is not there; the result has those of step {step}, {which}"
                );
                self.sink.event(RunEvent::Message(Level::Warn, message));
                step
            }
        }
    }

    /// The last value of every figure, and the figures of the whole run.
    fn final_metrics(&self) -> Metrics {
        let mut metrics = Metrics::new();
        for logged in &self.history {
            metrics.merge(&logged.metrics);
        }
        if let Some((_, evaluation)) = &self.last_evaluation {
            metrics.merge(&evaluation.metrics());
        }
        metrics.set("train_seconds", self.progress.train_seconds);
        metrics.set("trained_tokens", self.progress.tokens as f64);
        metrics.set("trainable_parameters", self.model.parameters.count() as f64);
        metrics.set("total_parameters", self.model.total_parameters() as f64);
        if let Some(bytes) = process_memory::peak_bytes() {
            metrics.set("peak_memory_bytes", bytes as f64);
        }
        metrics
    }

    /// Writes the artifacts and reads them back. Nothing is held any longer than needed: the peak must not lie here.
    fn export(self, metrics: &Metrics) -> Result<()> {
        let Self {
            run,
            data,
            control,
            model,
            optimizer,
            history,
            last_evaluation,
            progress,
            ..
        } = self;
        drop(optimizer);
        let evaluation = last_evaluation.as_ref().map(|(_, evaluation)| evaluation);
        let filled = fill(&run.output_dir(), run.attempt, |dir| {
            let export = Export {
                run,
                data,
                model: &model,
                metrics,
                history: &history,
                evaluation,
            };
            export.write(dir)?;
            control.check_cancelled()?;
            let check = Check::of(run, data, &model, progress.step)?;
            drop(model);
            check.read_back(dir)
        });
        // Who has given the run up meanwhile may have begun another.
        let named = filled
            .and_then(|filled| filled.complete(|_| Ok(()), || Ok(control.check_cancelled()?)));
        named.map_err(|error| match error {
            Error::Io { doing, source } => Error::Io {
                doing: format!("writing the artifacts: {doing}"),
                source,
            },
            other => other,
        })
    }
}

/// The size of the weights among the artifacts.
fn exported_bytes(output: &Path) -> Option<u64> {
    let files = [
        "adapter/adapter_model.safetensors",
        "model/model.safetensors",
    ];
    files
        .iter()
        .find_map(|file| Some(fs::metadata(output.join(file)).ok()?.len()))
}
