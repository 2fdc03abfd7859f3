//! A run that waits at steps for others: it is measured there, and ends as if it had never waited.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};
use taper_core::{
    Control, Metrics, Outcome, RequestedAction, RunEvent, RunSpec, Stop, TrainError, Trainer as _,
};

use super::{
    Fixture, Recorder,
    training::{files, stopped, train},
};
use crate::Engine;

const STEPS: u64 = 24;
const ROWS: usize = 21;

/// Evaluations that fall on few of the steps, of which the best one is published.
fn body(tuning: Value) -> Value {
    json!({"tuning": tuning, "training": {
        "max_steps": STEPS, "per_device_train_batch_size": 3, "gradient_accumulation_steps": 2, "learning_rate": 1e-2,
        "lr_scheduler_type": "cosine", "warmup_steps": 3, "logging_steps": 1, "eval_steps": 7, "save_steps": 100,
        "load_best_model_at_end": true, "save_total_limit": 2,
    }})
}

fn lora() -> Value {
    json!({"type": "lora", "r": 4, "lora_alpha": 8, "lora_dropout": 0.1})
}

/// Trains until the run waits at `rung`, from where it was left before.
fn climb(run: &mut RunSpec, rung: u64) -> Recorder {
    run.pause_at_step = Some(rung);
    let mut recorder = Recorder::default();
    let ended = Engine::new().train(run, &mut recorder, &Control::new());
    assert_eq!(ended, Err(TrainError::Stopped(Stop::Reached)), "{rung}");
    run.resume_from = Some(run.checkpoint_dir(rung));
    recorder
}

fn finish(run: &mut RunSpec) -> Outcome {
    run.pause_at_step = None;
    train(run).0
}

/// All that a run has published, but for the figures by step and what names the run or the time.
fn published(run: &RunSpec) -> BTreeMap<String, Vec<u8>> {
    let mut files = files(&run.output_dir());
    files.retain(|name, _| {
        name.ends_with(".safetensors")
            || name.starts_with("eval_")
            || name == RunSpec::VALIDATION_ROWS
    });
    assert_eq!(files.len(), 3, "{:?}", files.keys());
    files
}

fn evaluation_at(recorder: &Recorder, step: u64) -> &Metrics {
    let found = recorder.events.iter().find_map(|event| match event {
        RunEvent::Evaluation { metrics, .. } if metrics.get("step") == Some(step as f64) => {
            Some(metrics)
        }
        _ => None,
    });
    found.unwrap_or_else(|| panic!("no evaluation at step {step}"))
}

/// The means that a table of validation rows gives: loss and accuracy.
fn means(dir: &Path) -> [f64; 2] {
    let mut table = csv::Reader::from_path(dir.join(RunSpec::VALIDATION_ROWS)).unwrap();
    let columns = table.headers().unwrap().clone();
    let (mut loss, mut correct, mut targets) = (0.0, 0.0, 0.0);
    for row in table.records() {
        let row = row.unwrap();
        let cell = |name| {
            let place = columns.iter().position(|column| column == name).unwrap();
            row[place].parse::<f64>().unwrap()
        };
        loss += cell("loss") * cell("label_tokens");
        correct += cell("correct");
        targets += cell("label_tokens");
    }
    [loss / targets, correct / targets]
}

fn measured(metrics: &Metrics) -> [f64; 2] {
    ["valid_loss", "valid_accuracy"].map(|name| metrics.get(name).unwrap())
}

#[test]
fn a_run_that_waits_at_every_step_ends_as_one_that_never_waits() {
    for tuning in [
        lora(),
        json!({"type": "full"}),
        json!({"type": "prompt_tuning"}),
    ] {
        let fixture = Fixture::new(0.1);
        let whole = fixture.run("whole", ROWS, body(tuning.clone()));
        let (undisturbed, _) = train(&whole);
        let mut run = fixture.run("rungs", ROWS, body(tuning.clone()));
        for rung in 1..STEPS {
            climb(&mut run, rung);
        }
        let outcome = finish(&mut run);
        assert_eq!(published(&run), published(&whole), "{tuning}");
        assert_eq!(measured(&outcome.metrics), measured(&undisturbed.metrics));
    }
}

#[test]
fn what_is_measured_at_rungs_does_not_try_the_patience() {
    let fixture = Fixture::new(0.1);
    let mut body = body(lora());
    body["training"]["early_stopping_patience"] = json!(1);
    body["training"]["eval_steps"] = json!(2);
    body["training"]["learning_rate"] = json!(0.3);
    let whole = fixture.run("whole", ROWS, body.clone());
    let end = train(&whole).0.metrics.get("step").unwrap();
    assert!(end < STEPS as f64, "the patience ends it");
    let mut run = fixture.run("rungs", ROWS, body);
    for rung in 1..end as u64 {
        climb(&mut run, rung);
    }
    assert_eq!(finish(&mut run).metrics.get("step"), Some(end));
    assert_eq!(published(&run), published(&whole));
}

#[test]
fn the_rows_give_the_figures() {
    let fixture = Fixture::new(0.1);
    for tuning in [lora(), json!({"type": "full"})] {
        let run = fixture.run("rows", ROWS, body(tuning));
        let metrics = train(&run).0.metrics;
        let ([loss, accuracy], [told, right]) = (means(&run.output_dir()), measured(&metrics));
        assert!((loss - told).abs() < 1e-12 && accuracy == right);
    }
}

#[test]
fn a_run_that_is_where_it_waits_does_nothing() {
    let fixture = Fixture::new(0.1);
    let mut run = fixture.run("again", ROWS, body(lora()));
    climb(&mut run, 9);
    let before = files(&run.run_dir);
    let again = climb(&mut run, 9);
    assert_eq!(files(&run.run_dir), before);
    let message = |event: &RunEvent| matches!(event, RunEvent::Message(..));
    assert!(again.events.iter().all(message), "{:?}", again.events);
    assert!(again.checkpoints.is_empty());
}

#[test]
fn a_rung_is_measured_whatever_comes_between() {
    let fixture = Fixture::new(0.1);
    let whole = fixture.run("whole", ROWS, body(lora()));
    let (_, undisturbed) = train(&whole);
    let mut run = fixture.run("rungs", ROWS, body(lora()));
    let expected = measured(evaluation_at(&climb(&mut run, 9), 9));
    // On a step that is measured anyway it is the same measurement.
    let scheduled = measured(evaluation_at(&climb(&mut run, 14), 14));
    assert_eq!(scheduled, measured(evaluation_at(&undisturbed, 14)));

    let mut run = fixture.run("paused", ROWS, body(lora()));
    run.pause_at_step = Some(9);
    stopped(&run, 9, RequestedAction::Pause, Stop::Paused);
    run.resume_from = Some(run.checkpoint_dir(9));
    let recorder = climb(&mut run, 9);
    assert_eq!(measured(evaluation_at(&recorder, 9)), expected);
    finish(&mut run);
    assert_eq!(published(&run), published(&whole));
}
