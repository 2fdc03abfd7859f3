//! `taper train`: one job without a server.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    model::{csv, jsonl, write_tiny_bert},
    server::binary,
};

const WEIGHTS: &str = "adapter/adapter_model.safetensors";

/// A model, data and room for results.
struct Workplace(TempDir);

impl Workplace {
    fn new() -> Result<Self> {
        let place = Self(tempfile::tempdir()?);
        write_tiny_bert(&place.path("model"))?;
        fs::write(place.path("train.jsonl"), jsonl(400))?;
        fs::write(place.path("valid.csv"), csv(40))?;
        Ok(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, spec: &Value, out: &str) -> Result<Command> {
        fs::write(self.path("spec.json"), spec.to_string())?;
        let mut command = Command::new(binary()?);
        command
            .current_dir(self.0.path())
            .args([
                "train",
                "spec.json",
                "--model",
                "model",
                "--data",
                "train.jsonl",
            ])
            .args(["--validation", "valid.csv", "--threads", "1", "--out", out]);
        Ok(command)
    }

    fn train(&self, spec: &Value, out: &str) -> Result<Output> {
        Ok(self.command(spec, out)?.output()?)
    }

    /// Trains until some steps have been told, then sends SIGINT; returns the exit code and what was said after that.
    fn interrupt(&self, spec: &Value, out: &str) -> Result<(Option<i32>, String)> {
        let mut process = self.command(spec, out)?.stderr(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(process.stderr.take().context("no stderr")?).lines();
        while let Some(line) = lines.next().transpose()? {
            if line.starts_with("step 60/") {
                break;
            }
        }
        let sent = Command::new("kill")
            .args(["-INT", &process.id().to_string()])
            .status()?;
        ensure!(sent.success(), "no signal could be sent");
        let rest: Vec<_> = lines.collect::<Result<_, _>>()?;
        Ok((process.wait()?.code(), rest.join("\n")))
    }

    /// What a run that must fail says.
    fn refusal(&self, spec: &Value, out: &str) -> Result<String> {
        let output = self.train(spec, out)?;
        ensure!(output.status.code() == Some(1), "{:?}", output.status);
        Ok(String::from_utf8(output.stderr)?)
    }
}

/// A job of `epochs` times 25 steps.
fn spec(epochs: u32) -> Value {
    json!({
        "tuning": {"type": "lora", "r": 4, "lora_dropout": 0.1},
        "training": {"num_train_epochs": epochs, "learning_rate": 1e-2, "logging_steps": 20},
    })
}

#[test]
fn the_result_lies_in_the_folder() -> Result<()> {
    let place = Workplace::new()?;
    let output = place.train(&spec(16), "out")?;
    let told = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(0), "{told}");
    for part in [
        "400 training rows",
        "step 20/400 · ETA",
        "Step 25/400: validation loss=",
    ] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
    let table = String::from_utf8(output.stdout)?;
    let accuracy = table
        .lines()
        .find_map(|line| line.strip_prefix("valid_accuracy"));
    let accuracy: f64 = accuracy.context("no accuracy")?.trim().parse()?;
    assert!(accuracy > 0.85, "accuracy {accuracy}");

    let mut names: Vec<_> = fs::read_dir(place.path("out"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    names.sort();
    assert_eq!(
        names,
        [
            "adapter",
            "eval_predictions.jsonl",
            "metrics.csv",
            "result.csv",
            "tensorboard",
            "validation_rows.csv"
        ]
    );
    let out = place.path("out");
    assert!(out.join(WEIGHTS).is_file() && out.join("adapter/adapter_config.json").is_file());
    let predictions = fs::read_to_string(out.join("eval_predictions.jsonl"))?;
    assert_eq!(predictions.lines().count(), 40);

    let again = place.refusal(&spec(16), "out")?;
    assert!(again.contains("out is not empty"), "{again}");
    Ok(())
}

#[test]
fn what_is_wrong_is_named_and_leaves_nothing_behind() -> Result<()> {
    let place = Workplace::new()?;
    let rows = [
        (
            json!({"tuning": {"type": "lora", "lora_apha": 1}}),
            "did you mean 'tuning.lora_alpha'",
        ),
        (
            json!({"tuning": {"type": "lora", "r": 0}}),
            "(param tuning.r)",
        ),
        (
            json!({"training": {"max_length": 1000}}),
            "(param training.max_length)",
        ),
        (
            json!({"model": "other"}),
            "'model' is named on the command line",
        ),
        (json!([]), "spec.json must hold a JSON object"),
    ];
    for (spec, message) in rows {
        let told = place.refusal(&spec, "out")?;
        assert!(
            told.starts_with("error: ") && told.contains(message),
            "{told}"
        );
        assert!(!place.path("out").exists(), "{told}");
    }
    fs::write(
        place.path("train.jsonl"),
        "{\"text\": \"good\", \"label\": [1]}\n",
    )?;
    let told = place.refusal(&spec(1), "out")?;
    assert!(
        told.contains("line 1") && told.contains("(param training_file)"),
        "{told}"
    );
    Ok(())
}

#[test]
fn an_interrupted_run_goes_on_to_the_same_bytes() -> Result<()> {
    let place = Workplace::new()?;
    let spec = spec(100);
    let (code, told) = place.interrupt(&spec, "parts")?;
    assert_eq!(code, Some(130), "{told}");
    assert!(
        told.contains("the same command goes on from parts/run/checkpoints/step-"),
        "{told}"
    );
    let other = json!({"training": {"max_steps": 3}});
    let refused = place.refusal(&other, "parts")?;
    assert!(
        refused.contains("other settings") && refused.contains("--out"),
        "{refused}"
    );

    let second = place.train(&spec, "parts")?;
    let told = String::from_utf8(second.stderr)?;
    assert_eq!(second.status.code(), Some(0), "{told}");
    assert!(
        told.contains("going on from the checkpoint step-"),
        "{told}"
    );
    assert!(!told.contains("step 20/"), "{told}");

    let whole = place.train(&spec, "whole")?;
    assert_eq!(whole.status.code(), Some(0));
    let bytes = |out: &str| fs::read(place.path(out).join(WEIGHTS));
    assert!(bytes("parts")? == bytes("whole")?, "the adapters differ");
    Ok(())
}
