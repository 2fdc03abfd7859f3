//! A run that is interrupted, at whatever moment, equals one that is not: the same figures and the same bytes.

use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use taper_core::{
    Control, ErrorCode, JobError, RequestedAction, RunEvent, RunSpec, StartFrom, StartWeights,
    Stop, TrainError, Trainer as _,
};

use super::{
    Fixture, Recorder,
    training::{stopped, train},
};
use crate::Engine;

const STEPS: u64 = 40;
/// With 6 rows a step an epoch has four steps, the last of them of one micro-batch.
const ROWS: usize = 21;

/// Steps of two micro-batches, evaluations that fall on no end of an epoch, the best model published.
fn body(tuning: Value) -> Value {
    json!({"tuning": tuning, "training": {
        "max_steps": STEPS, "per_device_train_batch_size": 3, "gradient_accumulation_steps": 2, "learning_rate": 1e-2,
        "lr_scheduler_type": "cosine", "warmup_steps": 3, "logging_steps": 1, "eval_steps": 7, "save_steps": 100,
        "load_best_model_at_end": true, "save_total_limit": 2,
    }})
}

fn lora() -> Value {
    json!({"type": "lora", "r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "loraplus_lr_ratio": 4})
}

/// Every figure of a run that does not depend on the clock: kind of event, step, bits.
type Series = Vec<(&'static str, u64, Vec<u64>)>;

fn series(recorder: &Recorder) -> Series {
    let figures = |names: &[&str], metrics: &taper_core::Metrics| {
        let values = names
            .iter()
            .filter_map(|name| Some(metrics.get(name)?.to_bits()));
        (metrics.get("step").unwrap() as u64, values.collect())
    };
    let line = |event: &RunEvent| match event {
        RunEvent::Step(metrics) => {
            let (step, bits) = figures(&["train_loss", "grad_norm", "learning_rate"], metrics);
            Some(("step", step, bits))
        }
        RunEvent::Evaluation { metrics, .. } => {
            let (step, bits) = figures(&["valid_loss", "valid_accuracy"], metrics);
            Some(("evaluation", step, bits))
        }
        _ => None,
    };
    recorder.events.iter().filter_map(line).collect()
}

/// The weights that a run has published, and what they say of the validation rows.
fn result(run: &RunSpec) -> [Vec<u8>; 2] {
    let output = run.output_dir();
    let weights = [
        "adapter/adapter_model.safetensors",
        "model/model.safetensors",
    ];
    let weights = weights
        .iter()
        .find_map(|name| fs::read(output.join(name)).ok());
    [
        weights.unwrap(),
        fs::read(output.join("eval_predictions.jsonl")).unwrap(),
    ]
}

/// Pauses runs after some of their steps, lets them go on, and compares them with one that was let alone.
fn interrupt(tuning: &Value, steps: impl Iterator<Item = u64>) {
    let fixture = Fixture::new(0.1);
    let whole = fixture.run("whole", ROWS, body(tuning.clone()));
    let (_, undisturbed) = train(&whole);
    assert_eq!(
        series(&undisturbed)
            .iter()
            .filter(|(kind, ..)| *kind == "step")
            .count() as u64,
        STEPS
    );
    for step in steps {
        let mut run = fixture.run(&format!("paused-{step}"), ROWS, body(tuning.clone()));
        let before = stopped(&run, step, RequestedAction::Pause, Stop::Paused);
        assert_eq!(before.checkpoints.last().unwrap().step, step);
        run.resume_from = Some(before.checkpoints.last().unwrap().dir.clone());
        let (_, after) = train(&run);
        assert_eq!(
            [series(&before), series(&after)].concat(),
            series(&undisturbed),
            "{tuning}: paused after step {step}"
        );
        assert_eq!(
            result(&run),
            result(&whole),
            "{tuning}: paused after step {step}"
        );
    }
}

#[test]
fn lora_paused_after_every_step() {
    interrupt(&lora(), 1..STEPS);
}

/// Between and on the ends of epochs, on evaluations, where layers begin to train, before the last step.
#[test]
fn every_method_paused_after_some_steps() {
    for tuning in [
        json!({"type": "full"}),
        json!({"type": "layerwise", "layer_decay": 0.8, "unfreeze_every_steps": 5, "learning_rates": {r".*layer\.0\..*bias": 1e-3}}),
        json!({"type": "prompt_tuning", "num_virtual_tokens": 4, "prompt_tuning_init": "SAMPLE_VOCAB"}),
    ] {
        interrupt(&tuning, [1, 4, 5, 7, 14, 39].into_iter());
    }
}

/// The sums between two logs are part of a checkpoint.
#[test]
fn a_run_goes_on_from_each_of_its_checkpoints() {
    let fixture = Fixture::new(0.1);
    let mut body = body(lora());
    for (name, value) in [
        ("logging_steps", 3),
        ("save_steps", 1),
        ("save_total_limit", 100),
    ] {
        body["training"][name] = json!(value);
    }
    let whole = fixture.run("whole", ROWS, body);
    let (_, recorder) = train(&whole);
    assert_eq!(recorder.checkpoints.len() as u64, STEPS);
    for checkpoint in &recorder.checkpoints {
        let resumed = RunSpec {
            run_dir: fixture.dir.path().join(format!("from-{}", checkpoint.step)),
            resume_from: Some(checkpoint.dir.clone()),
            ..whole.clone()
        };
        // The best weights may be those of an earlier checkpoint.
        copy(
            &whole.run_dir.join("checkpoints"),
            &resumed.run_dir.join("checkpoints"),
        );
        let (_, again) = train(&resumed);
        let later = |(_, step, _): &(&str, u64, Vec<u64>)| *step > checkpoint.step;
        assert_eq!(
            series(&again),
            series(&recorder)
                .into_iter()
                .filter(later)
                .collect::<Series>(),
            "from step {}",
            checkpoint.step
        );
        assert_eq!(
            result(&resumed),
            result(&whole),
            "from step {}",
            checkpoint.step
        );
    }
}

/// Cancelled by another thread, so within a step, between its micro-batches or in an evaluation, as it happens; what was done since the last
/// checkpoint is done again.
#[test]
fn a_run_goes_on_from_whatever_it_has_left() {
    const MOMENTS: u32 = 24;
    let fixture = Fixture::new(0.1);
    let mut body = body(lora());
    for (name, value) in [("logging_steps", 3), ("save_steps", 5)] {
        body["training"][name] = json!(value);
    }
    let whole = fixture.run("whole", ROWS, body.clone());
    let began = Instant::now();
    let (_, undisturbed) = train(&whole);
    let duration = began.elapsed();
    let mut goes_on = 0;
    for moment in 0..MOMENTS {
        let mut run = fixture.run(&format!("cancelled-{moment}"), ROWS, body.clone());
        let before = cancelled(&run, duration * moment / MOMENTS);
        let kept = before
            .checkpoints
            .last()
            .map_or(0, |checkpoint| checkpoint.step);
        goes_on += u32::from(kept > 0);
        run.resume_from = before
            .checkpoints
            .last()
            .map(|checkpoint| checkpoint.dir.clone());
        let (_, after) = train(&run);
        let known = |(_, step, _): &(&str, u64, Vec<u64>)| kept > 0 && *step <= kept;
        let mut all: Series = series(&before).into_iter().filter(known).collect();
        all.extend(series(&after));
        assert_eq!(
            all,
            series(&undisturbed),
            "cancelled at moment {moment}, from step {kept}"
        );
        assert_eq!(
            result(&run),
            result(&whole),
            "cancelled at moment {moment}, from step {kept}"
        );
    }
    assert!(
        goes_on > 0,
        "every run was cancelled before its first checkpoint"
    );
}

/// Trains until another thread cancels after some time, or to the end.
fn cancelled(run: &RunSpec, after: Duration) -> Recorder {
    let control = Control::new();
    let line = control.clone();
    let hand = thread::spawn(move || {
        thread::sleep(after);
        line.request(RequestedAction::Cancel);
    });
    let mut recorder = Recorder::default();
    let ended = Engine::new().train(run, &mut recorder, &control);
    assert!(
        matches!(ended, Ok(_) | Err(TrainError::Stopped(Stop::Cancelled))),
        "{ended:?}"
    );
    hand.join().unwrap();
    recorder
}

fn copy(from: &PathBuf, to: &PathBuf) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn a_pause_in_an_evaluation_loses_neither_the_steps_nor_the_evaluation() {
    let fixture = Fixture::new(0.1);
    let whole = fixture.run("whole", ROWS, body(lora()));
    let (_, undisturbed) = train(&whole);
    for step in [7, 14] {
        let mut run = fixture.run(&format!("paused-{step}"), ROWS, body(lora()));
        let before = stopped(&run, step, RequestedAction::Pause, Stop::Paused);
        assert!(
            !series(&before)
                .iter()
                .any(|(kind, at, _)| (*kind, *at) == ("evaluation", step))
        );
        run.resume_from = Some(before.checkpoints.last().unwrap().dir.clone());
        let (_, after) = train(&run);
        assert_eq!(
            [series(&before), series(&after)].concat(),
            series(&undisturbed)
        );
    }
}

/// A run's spec after a change of its own, with the checkpoint of another.
fn refused(run: RunSpec, checkpoint: &RunSpec, what: &str) {
    let run = RunSpec {
        resume_from: Some(checkpoint.checkpoint_dir(STEPS)),
        ..run
    };
    let error = Engine::new()
        .train(&run, &mut Recorder::default(), &Control::new())
        .unwrap_err();
    let TrainError::Failed(JobError { code, message, .. }) = error else {
        panic!("{what}: {error:?}")
    };
    assert_eq!(code, ErrorCode::CheckpointUnusable);
    let reason = format!("it was made with other {what}, so the run cannot go on from it");
    assert!(message.ends_with(&reason), "{message}");
}

#[test]
fn a_checkpoint_of_other_settings_data_or_base_is_refused() {
    let fixture = Fixture::new(0.0);
    let first = fixture.run("first", ROWS, body(lora()));
    train(&first);
    let mut other = first.clone();
    other.spec.training.seed = 7;
    refused(other, &first, "settings");

    let mut other = first.clone();
    other.training_file = fixture.file(
        "more.jsonl",
        &(fs::read_to_string(&first.training_file.path).unwrap()
            + "{\"text\": \"good\", \"label\": \"pos\"}\n"),
    );
    refused(other, &first, "training data");

    let mut other = first.clone();
    other.validation_file =
        Some(fixture.file("valid.jsonl", "{\"text\": \"bad\", \"label\": \"neg\"}\n"));
    refused(other, &first, "validation data");

    let mut other = first.clone();
    other.start_from = Some(StartFrom {
        model: "ft:first".to_owned(),
        method: first.spec.tuning.method.clone(),
        classes: Vec::new(),
        weights: StartWeights::Checkpoint(first.checkpoint_dir(STEPS)),
    });
    refused(other, &first, "weights to begin with");

    for name in ["model.safetensors", "tokenizer.json", "config.json"] {
        let path = fixture.model_dir().join(name);
        let original = fs::read(&path).unwrap();
        let mut changed = original.clone();
        if name.ends_with("json") {
            changed.push(b' ');
        } else if let Some(byte) = changed.iter_mut().rev().nth(3) {
            *byte ^= 1;
        }
        fs::write(&path, changed).unwrap();
        refused(first.clone(), &first, "files of the base model");
        fs::write(&path, original).unwrap();
    }
    fs::write(
        fixture.model_dir().join("chat_template.jinja"),
        "{{ messages }}",
    )
    .unwrap();
    refused(first.clone(), &first, "files of the base model");
    fs::remove_file(fixture.model_dir().join("chat_template.jinja")).unwrap();

    let mut same = first.clone();
    same.resume_from = Some(first.checkpoint_dir(STEPS));
    same.spec.metadata = [(
        "note".to_owned(),
        "the numbers do not depend on it".to_owned(),
    )]
    .into();
    train(&same);
}

/// The weights that a run begins with are no checkpoint of its own: its own stay.
#[test]
fn weights_to_begin_with_that_cannot_be_read_are_laid_to_the_model() {
    let fixture = Fixture::new(0.0);
    let first = fixture.run("first", ROWS, body(lora()));
    train(&first);
    let checkpoint = first.checkpoint_dir(STEPS);
    let adapter = first.output_dir().join("adapter");
    fs::write(checkpoint.join("state.json"), "{}").unwrap();
    fs::write(adapter.join("adapter_config.json"), "{}").unwrap();
    for weights in [
        StartWeights::Checkpoint(checkpoint),
        StartWeights::Adapter(adapter),
    ] {
        let mut run = fixture.run("second", ROWS, body(lora()));
        run.start_from = Some(StartFrom {
            model: "ft:first".to_owned(),
            method: first.spec.tuning.method.clone(),
            classes: Vec::new(),
            weights,
        });
        let error = Engine::new()
            .train(&run, &mut Recorder::default(), &Control::new())
            .unwrap_err();
        let TrainError::Failed(JobError {
            code,
            param,
            message,
            ..
        }) = error
        else {
            panic!("{error:?}")
        };
        assert_eq!(
            (code.as_str(), param.as_deref()),
            ("invalid_model", Some("model"))
        );
        assert!(
            message.starts_with("cannot begin with 'ft:first': "),
            "{message}"
        );
    }
}

/// A full run at a rate at which the model saturates: its softmax is exactly 0 or 1, and so is the gradient of rows that it has right.
fn saturated(fixture: &Fixture, name: &str) -> RunSpec {
    let body = json!({"tuning": {"type": "full"}, "training": {
        "max_steps": 300, "per_device_train_batch_size": 6, "lr_scheduler_type": "constant", "weight_decay": 0, "logging_steps": 1,
        "save_steps": 1000,
    }});
    let mut run = fixture.run(name, 8, body);
    // More than a request may ask for.
    run.spec.training.learning_rate = Some(100.0);
    run
}

#[test]
fn a_saturated_run_that_was_paused_ends_as_the_undisturbed_one() {
    let fixture = Fixture::new(0.0);
    let whole = saturated(&fixture, "whole");
    let (_, undisturbed) = train(&whole);
    let norms = undisturbed.events.iter().filter_map(|event| match event {
        RunEvent::Step(metrics) => metrics.get("grad_norm"),
        _ => None,
    });
    let zeros: Vec<u64> = (1..)
        .zip(norms)
        .filter_map(|(step, norm)| (norm == 0.0).then_some(step))
        .collect();
    assert!(zeros.len() > 10, "steps without a gradient: {zeros:?}");
    // The step after each of these has no gradient at all, and is the first of the attempt.
    for step in [zeros[0], zeros[5], *zeros.last().unwrap()].map(|zero| zero - 1) {
        let mut run = saturated(&fixture, &format!("paused-{step}"));
        let before = stopped(&run, step, RequestedAction::Pause, Stop::Paused);
        run.resume_from = Some(before.checkpoints.last().unwrap().dir.clone());
        let (_, after) = train(&run);
        let series = [series(&before), series(&after)].concat();
        assert_eq!(series, self::series(&undisturbed), "step {step}");
        assert_eq!(result(&run), result(&whole), "step {step}");
    }
}

#[test]
fn a_diverging_run_that_was_paused_fails_as_the_undisturbed_one() {
    let fixture = Fixture::new(0.0);
    let run = |name| {
        let body = json!({"tuning": {"type": "full"}, "training": {
            "max_steps": 50, "max_grad_norm": 0, "weight_decay": 0, "logging_steps": 1, "save_steps": 1000,
        }});
        let mut run = fixture.run(name, ROWS, body);
        run.spec.training.learning_rate = Some(1e30);
        run
    };
    let failure = |run: &RunSpec| {
        let ended = Engine::new().train(run, &mut Recorder::default(), &Control::new());
        match ended.unwrap_err() {
            TrainError::Failed(error) => error,
            other => panic!("{other:?}"),
        }
    };
    let undisturbed = failure(&run("whole"));
    assert_eq!(undisturbed.code, ErrorCode::NonFinite);
    assert!(undisturbed.step > Some(1), "{undisturbed:?}");
    let mut paused = run("paused");
    let before = stopped(&paused, 1, RequestedAction::Pause, Stop::Paused);
    paused.resume_from = Some(before.checkpoints.last().unwrap().dir.clone());
    let resumed = failure(&paused);
    assert_eq!(
        (resumed.code, resumed.step),
        (undisturbed.code, undisturbed.step)
    );
    // What follows tells which checkpoint is left, and only one of the two has any.
    let told = |message: &str| {
        message
            .split("; the")
            .next()
            .map(|told| told.split("; there").next().map(str::to_owned))
    };
    assert_eq!(told(&resumed.message), told(&undisturbed.message));
}
