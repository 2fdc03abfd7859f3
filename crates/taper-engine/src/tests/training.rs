//! The loop: learning, evaluation, accumulation, stopping.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value, json};
use taper_core::{
    Control, ErrorCode, JobError, Outcome, RequestedAction, RunEvent, RunSpec, Stop, TrainError,
    Trainer as _,
};

use super::{Fixture, Recorder};
use crate::{Engine, model_folder::Weights};

pub(super) fn train(run: &RunSpec) -> (Outcome, Recorder) {
    let mut recorder = Recorder::default();
    let outcome = Engine::new()
        .train(run, &mut recorder, &Control::new())
        .unwrap();
    (outcome, recorder)
}

/// Every file below a folder with its bytes.
pub(super) fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(
                files(&path)
                    .into_iter()
                    .map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)),
            );
        } else {
            found.insert(name, fs::read(path).unwrap());
        }
    }
    found
}

fn losses(recorder: &Recorder) -> Vec<(u64, u64)> {
    let steps = recorder.events.iter().filter_map(|event| match event {
        RunEvent::Step(metrics) => Some((
            metrics.get("step")? as u64,
            metrics.get("train_loss")?.to_bits(),
        )),
        _ => None,
    });
    steps.collect()
}

pub(super) fn small() -> Value {
    json!({
        "tuning": {"type": "lora", "r": 4, "lora_alpha": 8},
        "training": {"max_steps": 9, "per_device_train_batch_size": 3, "gradient_accumulation_steps": 2, "logging_steps": 2,
                     "save_steps": 1, "save_total_limit": 100, "learning_rate": 1e-2, "warmup_steps": 2},
    })
}

#[test]
fn both_methods_learn_and_leave_their_artifacts() {
    let fixture = Fixture::new(0.1);
    for (name, tuning, folder) in [
        (
            "lora",
            json!({"type": "lora", "target_modules": ["query", "value", "dense"]}),
            "adapter",
        ),
        ("full", json!({"type": "full"}), "model"),
    ] {
        let training = json!({"num_train_epochs": 25, "per_device_train_batch_size": 8, "learning_rate": 5e-3});
        let run = fixture.run(name, 160, json!({"tuning": tuning, "training": training}));
        let (outcome, recorder) = train(&run);
        assert_eq!(
            outcome.metrics.get("valid_accuracy"),
            Some(1.0),
            "{name}: {:?}",
            outcome.metrics
        );
        let evaluations = recorder
            .events
            .iter()
            .filter(|e| matches!(e, RunEvent::Evaluation { .. }))
            .count();
        assert_eq!(
            evaluations,
            1 + 25,
            "before the first step and at the end of each epoch"
        );
        let names: Vec<String> = files(&run.output_dir()).into_keys().collect();
        let mut wanted: Vec<String> = match folder {
            "adapter" => ["adapter_config.json", "adapter_model.safetensors"]
                .map(str::to_owned)
                .to_vec(),
            _ => ["config.json", "model.safetensors"]
                .map(str::to_owned)
                .to_vec(),
        };
        wanted.extend(["README.md", "taper_job.json", "tokenizer.json"].map(str::to_owned));
        for name in wanted
            .iter()
            .map(|name| format!("{folder}/{name}"))
            .chain(["metrics.csv", "result.csv", "eval_predictions.jsonl"].map(str::to_owned))
        {
            assert!(names.contains(&name), "{name} is not among {names:?}");
        }
        assert!(
            names
                .iter()
                .any(|n| n.starts_with("tensorboard/events.out.tfevents."))
        );
    }
}

#[test]
fn lora_leaves_the_base_alone_and_writes_no_more_than_the_adapter() {
    let fixture = Fixture::new(0.0);
    let run = fixture.run("base", 30, small());
    let before = files(&fixture.model_dir());
    train(&run);
    assert_eq!(files(&fixture.model_dir()), before);
    let weights =
        Weights::open(&run.output_dir().join("adapter/adapter_model.safetensors")).unwrap();
    let names: Vec<&str> = weights.names().collect();
    assert_eq!(names.len(), 2 * 2 * 2 + 2);
    assert!(
        names.contains(&"base_model.model.bert.encoder.layer.1.attention.self.value.lora_B.weight"),
        "{names:?}"
    );
    assert!(
        names.contains(&"base_model.model.classifier.bias"),
        "{names:?}"
    );
}

#[test]
fn accumulation_gives_the_gradients_of_the_whole_batch() {
    let fixture = Fixture::new(0.0);
    let with = |name: &str, size: u64, parts: u64| {
        let body = json!({"tuning": {"type": "lora", "lora_dropout": 0}, "training": {"max_steps": 5,
            "per_device_train_batch_size": size, "gradient_accumulation_steps": parts, "logging_steps": 1}});
        let (_, recorder) = train(&fixture.run(name, 40, body));
        losses(&recorder)
            .into_iter()
            .map(|(_, bits)| f64::from_bits(bits))
            .collect::<Vec<_>>()
    };
    for (a, b) in with("8x1", 8, 1).iter().zip(with("1x8", 1, 8)) {
        assert!((a - b).abs() < 1e-5, "{a} and {b}");
    }
}

/// Trains until a command is given at the log of a step.
pub(super) fn stopped(run: &RunSpec, step: u64, action: RequestedAction, stop: Stop) -> Recorder {
    let control = Control::new();
    let line = control.clone();
    let give = move |event: &RunEvent| match event {
        RunEvent::Step(metrics) if metrics.get("step") == Some(step as f64) => line.request(action),
        _ => {}
    };
    let mut recorder = Recorder {
        on_event: Some(Box::new(give)),
        ..Recorder::default()
    };
    let error = Engine::new()
        .train(run, &mut recorder, &control)
        .unwrap_err();
    assert_eq!(error, TrainError::Stopped(stop));
    recorder
}

#[test]
fn cancel_stops_within_a_step_and_pause_leaves_a_checkpoint() {
    let fixture = Fixture::new(0.1);
    for (action, stop) in [
        (RequestedAction::Cancel, Stop::Cancelled),
        (RequestedAction::Pause, Stop::Paused),
    ] {
        let mut body = small();
        body["training"]["logging_steps"] = json!(1);
        body["training"]["save_steps"] = json!(100);
        let run = fixture.run(&format!("{stop}"), 40, body);
        let recorder = stopped(&run, 3, action, stop);
        assert_eq!(losses(&recorder).last().unwrap().0, 3);
        let kept: Vec<u64> = recorder.checkpoints.iter().map(|c| c.step).collect();
        assert_eq!(
            kept,
            if stop == Stop::Paused {
                vec![3]
            } else {
                vec![]
            }
        );
        assert!(!run.output_dir().exists());
    }
}

#[test]
fn the_best_model_is_published_and_patience_ends_the_run() {
    let fixture = Fixture::new(0.1);
    let body = json!({"tuning": {"type": "full"}, "training": {"num_train_epochs": 40, "per_device_train_batch_size": 8, "learning_rate": 2e-2,
        "eval_steps": 5, "load_best_model_at_end": true, "metric_for_best_model": "eval_loss", "early_stopping_patience": 2, "save_total_limit": 1}});
    let run = fixture.run("best", 80, body);
    let (outcome, recorder) = train(&run);
    let losses: Vec<(f64, f64)> = recorder
        .events
        .iter()
        .filter_map(|event| match event {
            RunEvent::Evaluation { metrics, .. } => {
                Some((metrics.get("step")?, metrics.get("valid_loss")?))
            }
            _ => None,
        })
        .filter(|(step, _)| *step > 0.0)
        .collect();
    let best = losses
        .iter()
        .copied()
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .unwrap();
    assert!(
        (outcome.metrics.get("valid_loss").unwrap() - best.1).abs() < 1e-6,
        "published {:?}, best {best:?}",
        outcome.metrics.get("valid_loss")
    );
    let last = losses.last().unwrap().0;
    assert!(
        last < 400.0 && last >= best.0 + 10.0,
        "stopped at {last}, best at {}",
        best.0
    );
}

#[test]
fn an_absurd_learning_rate_fails_with_the_step() {
    let fixture = Fixture::new(0.0);
    let body = json!({"tuning": {"type": "full"}, "training": {"num_train_epochs": 50, "learning_rate": 10, "max_grad_norm": 0, "weight_decay": 0}});
    let mut run = fixture.run("nan", 40, body);
    run.spec.training.learning_rate = Some(1e30);
    let error = Engine::new()
        .train(&run, &mut Recorder::default(), &Control::new())
        .unwrap_err();
    let TrainError::Failed(JobError {
        code,
        message,
        step,
        ..
    }) = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(code, ErrorCode::NonFinite);
    assert!(
        step.is_some()
            && message.contains("learning_rate")
            && message.contains("there is no checkpoint"),
        "{message}"
    );
}

/// The second job finds the tokens of the first, but its warmup is its own.
#[test]
fn a_warmup_longer_than_the_run_is_refused_for_each_job() {
    let fixture = Fixture::new(0.0);
    let engine = Engine::new();
    let run = fixture.run("short", 40, small());
    engine.check(&run, &Control::new()).unwrap();
    let mut other = run;
    other.spec.training.warmup_steps = 10.0;
    let error = engine.check(&other, &Control::new()).unwrap_err();
    assert!(
        matches!(&error, TrainError::Failed(error) if error.param.as_deref() == Some("training.warmup_steps")),
        "{error:?}"
    );
}

#[test]
fn a_head_of_other_classes_is_made_anew() {
    let fixture = Fixture::new(0.0);
    let mut body = small();
    body["tuning"] = json!({"type": "full"});
    let first = fixture.run("first", 40, body.clone());
    train(&first);
    let whole = first.output_dir().join("model");
    // What the model says before its first step follows from the head that it begins with.
    let start = |name: &str, names: Option<[&str; 2]>| {
        let config = whole.join("config.json");
        let mut changed: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
        match names {
            Some([a, b]) => changed["id2label"] = json!({"0": a, "1": b}),
            None => drop(changed.as_object_mut().unwrap().remove("id2label")),
        }
        fs::write(&config, changed.to_string()).unwrap();
        let mut run = fixture.run(name, 40, body.clone());
        run.model_dir.clone_from(&whole);
        let (_, recorder) = train(&run);
        let told = recorder.events.iter().any(|event| {
            matches!(event, RunEvent::Message(_, text) if text.contains("tells other classes apart"))
        });
        (losses(&recorder)[0].1, told)
    };
    let (kept, told) = start("same", Some(["neg", "pos"]));
    assert!(!told);
    assert_eq!(start("plain", None), (kept, false));
    assert_eq!(
        start("made-up", Some(["LABEL_0", "LABEL_1"])),
        (kept, false)
    );
    let (anew, told) = start("swapped", Some(["pos", "neg"]));
    assert!(told);
    assert_ne!(anew, kept);
    assert_eq!(start("other", Some(["bad", "good"])), (anew, true));
}
