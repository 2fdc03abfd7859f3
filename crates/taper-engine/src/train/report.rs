//! What a run tells while it trains.

use std::time::{SystemTime, UNIX_EPOCH};

use taper_core::{Level, Metrics, OVERFITTING_FROM, RunEvent, Sample, UNSTABLE_FROM, Warning};

use super::{TrainingLoop, process_memory, watch};
use crate::{
    Error, Result,
    checkpoint::Best,
    evaluation::{Evaluation, evaluate},
    history::Logged,
    tasks::task,
};

impl TrainingLoop<'_> {
    /// Reports the figures since the last log.
    pub(super) fn log(&mut self) -> Result<()> {
        let window = std::mem::take(&mut self.progress.window);
        self.progress.tokens += window.tokens;
        self.progress.train_seconds += window.seconds;
        let remaining = (self.total_steps - self.progress.step) as f64;
        let mut metrics = self.place();
        let last = self.progress.step - 1;
        let (peak, factor) = (self.peak_rate(), self.factor(last));
        metrics.set("learning_rate", peak * factor);
        for (group, rate) in self.rates.by_group(last, peak, factor) {
            metrics.set(&format!("learning_rate/{group}"), rate);
        }
        let targets = window.targets.max(1) as f64;
        metrics.set("train_loss", window.loss / targets);
        if let Some(accuracy) = task(self.data.task).training_accuracy() {
            metrics.set(accuracy, window.correct as f64 / targets);
        }
        metrics.set("grad_norm", self.last_gradient_norm);
        metrics.set("tokens_per_second", window.tokens as f64 / window.seconds);
        metrics.set("samples_per_second", window.rows as f64 / window.seconds);
        metrics.set("step_seconds", window.seconds / window.steps as f64);
        metrics.set(
            "eta_seconds",
            self.progress.train_seconds / self.progress.step as f64 * remaining,
        );
        if let Some(bytes) = process_memory::peak_bytes() {
            metrics.set("peak_memory_bytes", bytes as f64);
        }
        self.remember(&metrics, Vec::new());
        self.sink.event(RunEvent::Step(metrics));
        Ok(())
    }

    /// Adds the steps from which something goes wrong, and tells of each the first time. One that was told and is over becomes 0.
    pub(super) fn watch(&mut self, metrics: &mut Metrics) {
        let logged = self.history.iter().map(|logged| &logged.metrics);
        let all: Vec<&Metrics> = logged.chain([&*metrics]).collect();
        let mut news = Metrics::new();
        for (name, from) in [
            (OVERFITTING_FROM, watch::overfitting_from(&all)),
            (UNSTABLE_FROM, watch::unstable_from(&all)),
        ] {
            let from = from.map_or(0.0, |step| step as f64);
            let told = all.iter().rev().find_map(|figures| figures.get(name));
            if from != told.unwrap_or(0.0) {
                news.set(name, from);
            }
        }
        metrics.merge(&news);
        for warning in Warning::of_run(&news) {
            self.sink
                .event(RunEvent::Message(Level::Warn, warning.message));
        }
    }

    fn remember(&mut self, metrics: &Metrics, samples: Vec<Sample>) {
        let unix_seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0.0, |d| d.as_secs_f64());
        self.history.push(Logged {
            unix_seconds,
            metrics: metrics.clone(),
            samples,
        });
    }

    /// Step, total and epoch, which stand in every event.
    pub(super) fn place(&self) -> Metrics {
        let (step, total) = (self.progress.step as f64, self.total_steps as f64);
        Metrics::from([
            ("step", step),
            ("total_steps", total),
            ("epoch", step / self.steps_per_epoch as f64),
        ])
    }

    /// What the model makes of the validation rows, if there are any.
    pub(super) fn evaluation(&self) -> Result<Option<Evaluation>> {
        let Some(rows) = &self.data.validation else {
            return Ok(None);
        };
        Ok(Some(evaluate(
            &self.model,
            rows,
            self.data.task,
            self.control,
        )?))
    }

    /// Lets the model write a few texts, where the task is to write.
    fn write_samples(&mut self) -> Result<()> {
        let Some(rows) = self.data.validation.as_ref() else {
            return Ok(());
        };
        let known = (&*self.data.setup, &self.data.ends[..]);
        let samples = task(self.data.task).samples(&self.model, rows, known, self.control)?;
        if !samples.is_empty() {
            self.remember(&self.place(), samples.clone());
            self.sink.event(RunEvent::Samples {
                step: self.progress.step,
                samples,
            });
        }
        Ok(())
    }

    /// Evaluates and reports; tells whether the model is the best so far and has to be kept. What is measured for a rung alone changes
    /// nothing of that, so that a run ends the same with rungs and without.
    pub(super) fn evaluate(&mut self) -> Result<bool> {
        let evaluation = match self.evaluation() {
            Err(Error::Stopped(stop)) => {
                // It is made up for when the run goes on.
                self.progress.evaluation_due = true;
                return Err(self.leave(stop));
            }
            evaluation => evaluation?,
        };
        let Some(evaluation) = evaluation else {
            return Ok(false);
        };
        self.progress.evaluation_due = false;
        let figures = evaluation.metrics();
        let mut metrics = self.place();
        metrics.merge(&figures);
        self.watch(&mut metrics);
        self.remember(&metrics, Vec::new());
        self.sink.event(RunEvent::Evaluation {
            metrics,
            confusion: evaluation.confusion(),
        });
        self.last_evaluation = Some((self.progress.step, evaluation));
        self.write_samples()?;
        let training = &self.run.spec.training;
        let counts = self.progress.step > 0 && self.is_time_for(training.eval_steps);
        Ok(counts && self.improves(&figures) && training.load_best_model_at_end)
    }

    /// Notes whether these figures are the best so far.
    fn improves(&mut self, figures: &Metrics) -> bool {
        let training = &self.run.spec.training;
        let value = figures
            .get(&training.metric_for_best_model)
            .unwrap_or(f64::NAN);
        let lower = training.lower_is_better();
        let better = |best: &Best| {
            if lower {
                value < best.value
            } else {
                value > best.value
            }
        };
        let improved = value.is_finite() && self.progress.best.as_ref().is_none_or(better);
        if improved {
            self.progress.best = Some(Best {
                step: self.progress.step,
                value,
            });
            self.progress.evaluations_without_progress = 0;
        } else {
            self.progress.evaluations_without_progress += 1;
        }
        improved
    }
}
