//! What the user is told.

use std::{fs, io::ErrorKind, path::Path};

use anyhow::{Error, anyhow};
use serde_json::Value;
use taper_core::{
    CheckpointFiles, ErrorCode, Level, Metrics, NewEvent, PublishRefused, RunEvent, RunSink,
    RunSpec, TrainError,
};

use crate::{
    console::say,
    progress::{Progress, duration},
};

/// Figures of the table at the end, in its order.
const SHOWN: [&str; 13] = [
    "step",
    "epoch",
    "train_loss",
    "valid_loss",
    "valid_accuracy",
    "valid_macro_f1",
    "valid_perplexity",
    "valid_mean_token_accuracy",
    "trainable_parameters",
    "total_parameters",
    "trained_tokens",
    "train_seconds",
    "peak_memory_bytes",
];

/// Shows a run's reports and throws away the checkpoints that it no longer needs.
pub(super) struct Sink<'a> {
    pub(super) run: &'a RunSpec,
    pub(super) progress: &'a mut Progress,
}

impl RunSink for Sink<'_> {
    fn event(&mut self, event: RunEvent) {
        let event = NewEvent::from(event);
        let data = Value::from(event.data.unwrap_or_default());
        self.progress.show(event.kind, &event.message, &data);
    }

    fn checkpoint(&mut self, checkpoint: CheckpointFiles) -> Result<(), PublishRefused> {
        for step in checkpoint.superseded {
            let dir = self.run.checkpoint_dir(step);
            match fs::remove_dir_all(&dir) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    // The new checkpoint is whole all the same, and worth more than the space.
                    let message = format!("cannot remove {}: {error}", dir.display());
                    self.event(RunEvent::Message(Level::Warn, message));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Prints the table of figures.
pub(super) fn figures(metrics: &Metrics) {
    let there = |name: &&'static str| Some((*name, metrics.get(name)?));
    for (name, value) in SHOWN.iter().filter_map(there) {
        say(format_args!("{name:<25} {:>14}", shown(name, value)));
    }
}

fn shown(name: &str, value: f64) -> String {
    if name.ends_with("_bytes") {
        format!("{:.0} MiB", value / f64::from(1 << 20))
    } else if name.ends_with("_seconds") {
        duration(value)
    } else if matches!(name, "step" | "trained_tokens") || name.ends_with("_parameters") {
        format!("{value:.0}")
    } else {
        format!("{value:.4}")
    }
}

/// How an interrupted run can be gone on with.
pub(super) fn interrupted(checkpoint: Option<&Path>) -> String {
    match checkpoint {
        Some(dir) => format!(
            "interrupted; the same command goes on from {}",
            dir.display()
        ),
        None => {
            "interrupted before there was anything to keep; the same command starts anew".into()
        }
    }
}

/// Why a run has failed, where, and what is left of it.
pub(super) fn failed(error: TrainError, checkpoint: Option<&Path>) -> Error {
    let mut text = error.to_string();
    if let TrainError::Failed(error) = &error {
        let param = error.param.iter().filter(|param| !param.is_empty());
        let places: Vec<_> = param
            .map(|param| format!("param {param}"))
            .chain(error.step.map(|step| format!("step {step}")))
            .collect();
        if !places.is_empty() {
            text += &format!(" ({})", places.join(", "));
        }
        if error.code == ErrorCode::CheckpointUnusable {
            text += "; name another folder by --out, or empty this one to start anew";
        }
    }
    if let Some(dir) = checkpoint {
        text += &format!("\nthe last checkpoint is {}", dir.display());
    }
    anyhow!(text)
}

#[cfg(test)]
mod tests {
    use taper_core::JobError;

    use super::*;

    #[test]
    fn a_failure_says_where() {
        let error = |param: Option<&str>, step| {
            TrainError::Failed(JobError {
                param: param.map(str::to_owned),
                step,
                ..JobError::new(ErrorCode::NonFinite, "the loss is not finite")
            })
        };
        let text = |error, dir: Option<&str>| failed(error, dir.map(Path::new)).to_string();
        assert_eq!(text(error(None, None), None), "the loss is not finite");
        assert_eq!(
            text(error(Some("tuning.r"), Some(3)), Some("x")),
            "the loss is not finite (param tuning.r, step 3)\nthe last checkpoint is x"
        );
    }

    #[test]
    fn figures_are_readable() {
        assert_eq!(shown("peak_memory_bytes", 3e8), "286 MiB");
        assert_eq!(shown("train_seconds", 61.0), "1 min 1 s");
        assert_eq!(shown("trained_tokens", 1e6), "1000000");
        assert_eq!(shown("valid_loss", 0.25), "0.2500");
    }
}
