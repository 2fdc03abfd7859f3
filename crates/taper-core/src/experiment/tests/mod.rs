mod bad_input;
mod decisions;
mod figures;
mod requests;
mod seeds;

use serde_json::{Value, json};

use super::*;
use crate::{ErrorCode, ExperimentRequest, JobSpec};

/// The body of an experiment with more fields.
fn with(more: Value) -> Value {
    let mut body = json!({"model": "m", "training_file": "file-1", "validation_file": "file-2"});
    let more = more.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(more);
    body
}

/// An experiment as it is after a look at model and data, and its jobs.
fn settled(more: Value) -> (Experiment, Vec<(usize, JobSpec)>) {
    let request = ExperimentRequest::parse(&with(more)).unwrap();
    let defaults = crate::Defaults {
        task_type: TaskType::SeqCls,
        target_modules: vec!["query".to_owned()],
        model_max_length: 256,
        default_max_length: 256,
    };
    let specs = request.specs();
    let specs: Vec<_> = specs
        .map(|spec| spec.clone().resolve(&defaults).unwrap())
        .collect();
    request.settle(specs).unwrap()
}

/// The runs of an experiment, each of `total` steps and yet to begin.
fn runs(experiment: &Experiment, jobs: &[(usize, JobSpec)], total: u64) -> Vec<Run> {
    let run = |(number, (configuration, spec)): (usize, &(usize, JobSpec))| Run {
        job: format!("ftjob-{number}"),
        configuration: *configuration,
        seed: spec.training.seed,
        state: JobState::Queued,
        reason: None,
        error: None,
        metrics: Metrics::new(),
        plan: Some(Plan {
            total_steps: total,
            trainable_parameters: 1000 * (1 + *configuration as u64),
            ..Plan::default()
        }),
        pause_at_step: first_rung(experiment, total),
        has_started: false,
    };
    jobs.iter().enumerate().map(run).collect()
}

/// Lets a run train as far as it may, with a value of the objective there.
fn train(run: &mut Run, value: f64) {
    let total = run.plan.as_ref().unwrap().total_steps;
    run.metrics
        .set("step", run.pause_at_step.unwrap_or(total) as f64);
    run.metrics.set("valid_accuracy", value);
    run.has_started = true;
    (run.state, run.reason) = match run.pause_at_step {
        Some(_) => (JobState::Paused, Some(Reason::Rung)),
        None => (JobState::Succeeded, None),
    };
}
