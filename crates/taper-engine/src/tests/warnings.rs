//! What a run warns of: on data and settings that deserve it, and on no others.

use std::fs;

use serde_json::{Value, json};
use taper_core::{Control, Level, Plan, RunEvent, RunSpec, Trainer as _, Warning, WarningCode};

use super::{Fixture, training::train};
use crate::Engine;

fn body(training: Value) -> Value {
    json!({"tuning": {"type": "full"}, "training": training})
}

fn plan(run: &RunSpec) -> Plan {
    Engine::new().check(run, &Control::new()).unwrap()
}

fn codes(warnings: &[Warning]) -> Vec<WarningCode> {
    warnings.iter().map(|warning| warning.code).collect()
}

/// What the figures at the end say, and what the run has told on its way.
fn after(run: &RunSpec) -> (Vec<Warning>, Vec<String>) {
    let (outcome, recorder) = train(run);
    let told = recorder.events.into_iter().filter_map(|event| match event {
        RunEvent::Message(Level::Warn, message) => Some(message),
        _ => None,
    });
    (Warning::of_run(&outcome.metrics), told.collect())
}

#[test]
fn rows_that_are_cut_and_rows_in_both_files_are_told_by_the_plan() {
    let fixture = Fixture::new(0.0);
    let mut run = fixture.run("data", 30, body(json!({"max_steps": 2})));
    // The words of the fixture are few, so that its rows repeat.
    let distinct = "{\"text\": \"poor poor\", \"label\": \"neg\"}\n{\"text\": \"fine fine\", \"label\": \"pos\"}\n";
    run.validation_file = Some(fixture.file("distinct.jsonl", distinct));
    assert_eq!(plan(&run).warnings, []);
    run.spec.training.max_length = Some(4);
    let cut = plan(&run);
    assert_eq!(codes(&cut.warnings), [WarningCode::TruncatedRows]);
    let rows = format!("{} of 32 rows", cut.truncated_rows);
    assert!(cut.warnings[0].message.starts_with(&rows), "{cut}");

    let first = fs::read_to_string(&run.training_file.path).unwrap();
    let first = first.lines().next().unwrap();
    run.spec.training.max_length = None;
    run.validation_file = Some(fixture.file("twice.jsonl", &format!("{distinct}{first}\n")));
    let twice = plan(&run).warnings;
    assert_eq!(codes(&twice), [WarningCode::DuplicateRows]);
    assert!(twice[0].message.starts_with("1 of 3"), "{twice:?}");
}

#[test]
fn labels_learned_by_heart_are_overfitting() {
    let fixture = Fixture::new(0.0);
    let training =
        json!({"num_train_epochs": 12, "per_device_train_batch_size": 8, "learning_rate": 5e-3});
    let sound = fixture.run("sound", 80, body(training.clone()));
    assert_eq!(after(&sound), (vec![], vec![]));

    let mut run = fixture.run("flipped", 80, body(training));
    let rows = fs::read_to_string(&run.validation_file.as_ref().unwrap().path).unwrap();
    // Every third validation row contradicts what there is to be learned.
    let flip = |(place, row): (usize, &str)| match place % 3 {
        0 => row
            .replace("pos", "p")
            .replace("neg", "pos")
            .replace("\"p\"", "\"neg\""),
        _ => row.to_owned(),
    };
    let flipped: Vec<String> = rows.lines().enumerate().map(flip).collect();
    run.validation_file = Some(fixture.file("flipped.jsonl", &flipped.join("\n")));
    let (warnings, told) = after(&run);
    assert_eq!(codes(&warnings), [WarningCode::Overfitting]);
    assert!(told.contains(&warnings[0].message), "{told:?}");
}

#[test]
fn a_rate_that_makes_the_loss_jump_is_unstable() {
    let fixture = Fixture::new(0.0);
    let training = json!({"max_steps": 80, "per_device_train_batch_size": 4, "learning_rate": 2.0, "max_grad_norm": 0,
        "lr_scheduler_type": "constant"});
    let run = fixture.run("wild", 80, body(training));
    let (warnings, told) = after(&run);
    assert!(
        codes(&warnings).contains(&WarningCode::UnstableLearningRate),
        "{warnings:?}"
    );
    assert!(
        told.iter().any(|message| message.contains("went up")),
        "{told:?}"
    );
}
