//! `--dry-run`: what a run would do and take.

use taper_core::{Bytes, Control, Plan, RunSpec, TrainError, Trainer};
use taper_engine::Engine;

use crate::{console::say, progress::duration};

/// Counts the data and estimates the rest.
pub(super) fn make(mut run: RunSpec) -> Result<Plan, TrainError> {
    let engine = Engine::new();
    run.spec = engine.inspect(&run)?;
    engine.check(&run, &Control::new())
}

/// Prints a table, or JSON.
pub(super) fn print(plan: &Plan, json: bool) {
    if json {
        return say(serde_json::json!(plan));
    }
    let counts = [
        ("training rows", plan.training_rows),
        ("validation rows", plan.validation_rows),
        ("training tokens", plan.training_tokens),
        ("label tokens", plan.label_tokens),
        ("rows cut to max_length", plan.truncated_rows),
        ("steps", plan.total_steps),
        ("trained parameters", plan.trainable_parameters),
        ("all parameters", plan.total_parameters),
        ("tokens of the heaviest batch", plan.heaviest_batch_tokens),
    ];
    for (name, count) in counts {
        line(name, count);
    }
    line("memory at the peak", Bytes(plan.memory.total()));
    for (name, bytes) in plan.memory.parts() {
        line(&format!("  {name}"), Bytes(bytes));
    }
    line("disk for checkpoints", Bytes(plan.disk.checkpoints));
    line("disk for the result", Bytes(plan.disk.artifacts));
    line("time, about", duration(plan.estimated_seconds));
    for warning in &plan.warnings {
        say(format_args!("warning: {}", warning.message));
    }
}

fn line(name: &str, value: impl std::fmt::Display) {
    say(format_args!("{name:<30} {:>14}", value.to_string()));
}
