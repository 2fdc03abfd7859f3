//! What a run leaves behind at its end: the artifacts.

use std::{fs, path::Path};

use taper_core::{Metrics, Outcome};

use super::Trainer;
use crate::{Error, Result, export::Export, folder::write_whole, memory, state};

impl Trainer<'_> {
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
        self.export(&metrics)?;
        if let Some(bytes) = exported_bytes(&self.run.output_dir()) {
            metrics.set("adapter_bytes", bytes as f64);
        }
        Ok(Outcome {
            metrics,
            trained_tokens: self.progress.tokens,
        })
    }

    /// Puts the best weights back if they are wanted, and makes sure that the last evaluation is theirs.
    fn choose_weights(&mut self) -> Result<()> {
        let best = self.progress.best.as_ref().map(|best| best.step);
        let wanted = best.filter(|_| self.run.spec.training.load_best_model_at_end);
        let step = wanted.unwrap_or(self.progress.step);
        if step != self.progress.step {
            state::restore_best(self.run, step, &self.model.parameters)?;
        }
        let evaluated = self.last_evaluation.as_ref().map(|(step, _)| *step);
        if step != self.progress.step || evaluated != Some(step) {
            self.last_evaluation = self.evaluation()?.map(|evaluation| (step, evaluation));
        }
        Ok(())
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
        if let Some(bytes) = memory::peak_bytes() {
            metrics.set("peak_memory_bytes", bytes as f64);
        }
        metrics
    }

    fn export(&self, metrics: &Metrics) -> Result<()> {
        let export = Export {
            run: self.run,
            data: self.data,
            model: &self.model,
            metrics,
            history: &self.history,
            evaluation: self
                .last_evaluation
                .as_ref()
                .map(|(_, evaluation)| evaluation),
        };
        write_whole(&self.run.output_dir(), |dir| {
            export.write(dir)?;
            self.control.check_cancelled()?;
            export.check(dir)
        })
        .map_err(|error| match error {
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
