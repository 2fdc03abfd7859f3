//! Checkpoints that are damaged, cannot be read for now, or could not be kept.

use std::{fs, os::unix::fs::symlink, path::Path};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use taper_core::{
    CheckpointFiles, CheckpointRefused, Control, ErrorCode, Level, PublishRefused, RunEvent,
    RunSink, RunSpec, TrainError, Trainer as _,
};

use super::{
    Fixture, Recorder,
    training::{files, small, train},
};
use crate::Engine;

#[test]
fn a_checkpoint_with_any_part_damaged_missing_or_swapped_is_refused() {
    let fixture = Fixture::new(0.0);
    let run = fixture.run("damaged", 40, small());
    let (_, recorder) = train(&run);
    let (engine, dir) = (Engine::new(), &recorder.checkpoints[4].dir);
    let control = Control::new();
    assert_eq!(engine.verify(&run, dir, &control), Ok(()));
    // It shows that it lives with each of the files, of the model and of the checkpoint.
    assert!(control.heartbeats() >= 6, "{}", control.heartbeats());
    let parts = files(dir);
    assert_eq!(parts.len(), 4);
    for (name, bytes) in &parts {
        let path = dir.join(name);
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 4;
        let other = fs::read(recorder.checkpoints[5].dir.join(name)).unwrap();
        for damaged in [
            flipped,
            bytes[..bytes.len() - 1].to_vec(),
            Vec::new(),
            other,
        ] {
            fs::write(&path, damaged).unwrap();
            assert!(is_damaged(&engine, &run, dir), "{name}");
        }
        fs::remove_file(&path).unwrap();
        assert!(is_damaged(&engine, &run, dir), "without {name}");
        fs::write(&path, bytes).unwrap();
    }
    // A whole folder in the place of another.
    let swapped = run.checkpoint_dir(100);
    fs::rename(dir, &swapped).unwrap();
    let refused = engine.verify(&run, &swapped, &control).unwrap_err();
    let expected = CheckpointRefused::Damaged("it is that of step 5".to_owned());
    assert_eq!(refused, expected);
}

/// Changes what a checkpoint says of its tokens, and its sums with it.
fn say_of_tokens(dir: &Path, tokens: Option<&str>) {
    let read = |name: &str| fs::read(dir.join(name)).unwrap();
    let mut state: Value = serde_json::from_slice(&read("state.json")).unwrap();
    match tokens {
        Some(tokens) => state["tokens"] = json!(tokens),
        None => drop(state.as_object_mut().unwrap().remove("tokens")),
    }
    let state = state.to_string();
    let mut sums: Value = serde_json::from_slice(&read("manifest.json")).unwrap();
    sums["state.json"] = json!(format!("{:x}", Sha256::digest(&state)));
    fs::write(dir.join("state.json"), state).unwrap();
    fs::write(dir.join("manifest.json"), sums.to_string()).unwrap();
}

#[test]
fn a_run_does_not_go_on_over_other_tokens() {
    let fixture = Fixture::new(0.0);
    let mut run = fixture.run("tokens", 40, small());
    let (_, recorder) = train(&run);
    let dir = recorder.checkpoints[4].dir.clone();
    run.resume_from = Some(dir.clone());
    // As older builds wrote it: these rows give the tokens that they gave there.
    say_of_tokens(&dir, None);
    train(&run);
    say_of_tokens(&dir, Some("another sum"));
    let ended = Engine::new().train(&run, &mut Recorder::default(), &Control::new());
    let Err(TrainError::Failed(error)) = ended else {
        panic!("{ended:?}")
    };
    assert_eq!(error.code, ErrorCode::CheckpointUnusable);
    assert!(error.message.contains("other tokens"), "{}", error.message);
}

fn is_damaged(engine: &Engine, run: &RunSpec, dir: &Path) -> bool {
    let verified = engine.verify(run, dir, &Control::new());
    matches!(verified, Err(CheckpointRefused::Damaged(_)))
}

/// A model folder that is away for a while must not cost a job its checkpoints.
#[test]
fn a_checkpoint_whose_base_is_away_or_changed_is_not_damaged() {
    let fixture = Fixture::new(0.0);
    let run = fixture.run("away", 40, small());
    let (_, recorder) = train(&run);
    let dir = &recorder.checkpoints[4].dir;
    let refused = || Engine::new().verify(&run, dir, &Control::new());
    for name in ["model.safetensors", "config.json"] {
        let path = fixture.model_dir().join(name);
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(matches!(refused(), Err(CheckpointRefused::Unusable(_))));
        let mut other = bytes.clone();
        if let Some(byte) = other
            .iter_mut()
            .rev()
            .nth(3)
            .filter(|_| name != "config.json")
        {
            *byte ^= 1;
        } else {
            other.push(b' ');
        }
        fs::write(&path, other).unwrap();
        let reason =
            "it was made with other files of the base model, so the run cannot go on from it";
        assert_eq!(
            refused(),
            Err(CheckpointRefused::Unusable(reason.to_owned()))
        );
        fs::write(&path, bytes).unwrap();
        assert_eq!(refused(), Ok(()));
    }
}

/// Does not keep the checkpoints of the steps that it is told.
struct Forgetful(Recorder, Box<dyn Fn(u64) -> bool>);

impl RunSink for Forgetful {
    fn event(&mut self, event: RunEvent) {
        self.0.event(event);
    }

    fn checkpoint(&mut self, checkpoint: CheckpointFiles) -> Result<(), PublishRefused> {
        if !(self.1)(checkpoint.step) {
            return self.0.checkpoint(checkpoint);
        }
        self.0.checkpoints.push(checkpoint);
        Err(PublishRefused::NotKept("no space".to_owned()))
    }
}

#[test]
fn a_run_goes_on_without_the_checkpoints_that_cannot_be_kept() {
    let fixture = Fixture::new(0.0);
    let run = fixture.run("forgotten", 40, small());
    let mut sink = Forgetful(Recorder::default(), Box::new(|_| true));
    Engine::new()
        .train(&run, &mut sink, &Control::new())
        .unwrap();
    let tried = sink.0.checkpoints;
    // The last one is tried once more at the end.
    assert_eq!(tried.len(), 10);
    assert!(tried.iter().all(|checkpoint| !checkpoint.dir.exists()));
    let warnings = sink.0.events.iter().filter(
        |event| matches!(event, RunEvent::Message(Level::Warn, text) if text.ends_with("no space")),
    );
    assert_eq!(warnings.count(), 10);
}

/// The evaluations after the first step, by step, with their losses.
fn evaluations(recorder: &Recorder) -> Vec<(u64, f64)> {
    let losses = recorder.events.iter().filter_map(|event| match event {
        RunEvent::Evaluation { metrics, .. } => {
            Some((metrics.get("step")? as u64, metrics.get("valid_loss")?))
        }
        _ => None,
    });
    losses.filter(|(step, _)| *step > 0).collect()
}

/// Trains with a sink that does not keep the checkpoints of some steps; the published loss, and what was told.
fn train_without(run: &RunSpec, lost: impl Fn(u64) -> bool + 'static) -> (f64, Recorder) {
    let mut sink = Forgetful(Recorder::default(), Box::new(lost));
    let outcome = Engine::new()
        .train(run, &mut sink, &Control::new())
        .unwrap();
    (outcome.metrics.get("valid_loss").unwrap(), sink.0)
}

#[test]
fn a_best_step_that_could_not_be_kept_gives_way_to_the_best_that_was() {
    let fixture = Fixture::new(0.1);
    let body = json!({"tuning": {"type": "full"}, "training": {"num_train_epochs": 40, "per_device_train_batch_size": 8, "learning_rate": 2e-2,
        "eval_steps": 3, "save_steps": 1, "load_best_model_at_end": true, "metric_for_best_model": "eval_loss", "early_stopping_patience": 3,
        "save_total_limit": 1}});
    let run = |name: &str| fixture.run(name, 80, body.clone());
    let losses = evaluations(&train(&run("whole")).1);
    let mut bests: Vec<(u64, f64)> = Vec::new();
    for evaluated in &losses {
        if bests.last().is_none_or(|(_, loss)| evaluated.1 < *loss) {
            bests.push(*evaluated);
        }
    }
    let [.., (_, second), (best, least)] = bests[..] else {
        panic!("{losses:?}")
    };
    let (last_step, last) = *losses.last().unwrap();
    assert!(last_step > best && last > least, "{losses:?}");
    let says = |recorder: &Recorder, end: &str| {
        let start = format!("The weights of step {best} were the best");
        recorder.events.iter().any(|event| matches!(event, RunEvent::Message(Level::Warn, text) if text.starts_with(&start) && text.ends_with(end)))
    };
    let (published, recorder) = train_without(&run("without-best"), move |step| step == best);
    assert!((published - second).abs() < 1e-6, "{published}: {bests:?}");
    assert!(says(&recorder, "the best that could be kept"));
    let harmed = run("harmed-best");
    let weights = harmed.checkpoint_dir(best).join("parameters.safetensors");
    let (published, recorder) = train_without(&harmed, move |step| {
        if step > best {
            fs::write(&weights, "other bytes").unwrap();
        }
        false
    });
    assert!((published - last).abs() < 1e-6, "{published}: {last}");
    assert!(says(&recorder, "the last"));
    // What cannot be read for now is not harmed: other weights are no result.
    let away = run("away-best");
    let manifest = away.checkpoint_dir(best).join("manifest.json");
    let lead_astray = move |step| {
        if step > best {
            fs::remove_file(&manifest).unwrap();
            symlink(&manifest, &manifest).unwrap();
        }
        false
    };
    let mut sink = Forgetful(Recorder::default(), Box::new(lead_astray));
    let failed = Engine::new().train(&away, &mut sink, &Control::new());
    assert!(
        matches!(&failed, Err(TrainError::Failed(error)) if error.code == ErrorCode::CheckpointUnusable),
        "{failed:?}"
    );
    let (published, recorder) = train_without(&run("without-any"), |_| true);
    assert!((published - last).abs() < 1e-6, "{published}: {last}");
    assert!(says(&recorder, "the last"));
}
