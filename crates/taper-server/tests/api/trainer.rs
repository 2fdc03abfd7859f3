use std::{fs, io::Read, path::Path, thread, time::Duration};

use taper_core::{
    CheckpointFiles, CheckpointRefused, Control, Defaults, FieldError, JobSpec, Level, Memory,
    Metrics, Outcome, Plan, RunEvent, RunSink, RunSpec, SpecError, TaskType, TrainError, Trainer,
    code,
};

/// Trains nothing, but reports and leaves files like a run of `training.max_steps` steps. `metadata.script` may say `wait` (report
/// once, then wait to be told to stop), `fail` or `break down` (in the inspection).
pub(crate) struct ScriptedTrainer;

/// The adapter's weights: too many to go through a pipe at once, and hard to compress.
pub(crate) fn weights() -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(300_000).collect()
}

impl Trainer for ScriptedTrainer {
    fn inspect(&self, run: &RunSpec) -> Result<JobSpec, SpecError> {
        assert!(script(run) != Some("break down"), "a scripted breakdown");
        let mut first = [0];
        let read = fs::File::open(&run.training_file.path).and_then(|mut f| f.read(&mut first));
        if read.unwrap() == 0 || first != *b"{" {
            let message = format!("{}, line 1: not a JSON object", run.training_file.filename);
            let code = code::INVALID_TRAINING_FILE;
            return Err(FieldError::new("training_file", code, message).into());
        }
        run.spec.clone().resolve(&Defaults {
            task_type: TaskType::SeqCls,
            target_modules: vec!["query".to_owned(), "value".to_owned()],
            model_max_length: 256,
        })
    }

    fn memory_bound(&self, _: &RunSpec) -> Result<Memory, SpecError> {
        Ok(Memory::default())
    }

    fn verify(&self, _: &RunSpec, _: &Path) -> Result<(), CheckpointRefused> {
        Ok(())
    }

    fn check(&self, run: &RunSpec, _: &Control) -> Result<Plan, TrainError> {
        Ok(Plan {
            training_rows: 2,
            total_steps: steps(run),
            classes: vec!["bad".to_owned(), "good".to_owned()],
            ..Plan::default()
        })
    }

    fn train(
        &self,
        run: &RunSpec,
        sink: &mut dyn RunSink,
        control: &Control,
    ) -> Result<Outcome, TrainError> {
        match script(run) {
            Some("wait") => wait(sink, control),
            Some("fail") => Err(TrainError::Failed {
                code: "non_finite".to_owned(),
                message: "the loss is not finite at step 3; lower the learning rate".to_owned(),
                param: None,
                step: Some(3),
            }),
            _ => play(run, sink, control),
        }
    }
}

fn script(run: &RunSpec) -> Option<&str> {
    run.spec.metadata.get("script").map(String::as_str)
}

fn steps(run: &RunSpec) -> u64 {
    u64::try_from(run.spec.training.max_steps).unwrap_or(5)
}

fn figures(step: u64, total: u64) -> Metrics {
    Metrics::from([
        ("step", step as f64),
        ("total_steps", total as f64),
        ("train_loss", 1.0 / step as f64),
        ("eta_seconds", (total - step) as f64),
    ])
}

fn wait(sink: &mut dyn RunSink, control: &Control) -> Result<Outcome, TrainError> {
    sink.event(RunEvent::Step(figures(1, 100)));
    loop {
        control.check()?;
        thread::sleep(Duration::from_millis(1));
    }
}

fn play(run: &RunSpec, sink: &mut dyn RunSink, control: &Control) -> Result<Outcome, TrainError> {
    let total = steps(run);
    sink.event(RunEvent::Message(Level::Info, "Training starts".to_owned()));
    for step in 1..=total {
        control.check()?;
        sink.event(RunEvent::Step(figures(step, total)));
    }
    let metrics = figures(total, total)
        .with("valid_loss", f64::NAN)
        .with("valid_accuracy", 0.75);
    sink.event(RunEvent::Evaluation {
        metrics: metrics.clone(),
        confusion: vec![vec![1, 0], vec![0, 1]],
    });
    let dir = run.checkpoint_dir(total);
    write(&dir.join("state.json"), b"{}");
    sink.checkpoint(CheckpointFiles {
        step: total,
        dir,
        metrics: metrics.clone(),
        superseded: Vec::new(),
    })?;
    let output = run.output_dir();
    write(&output.join("adapter/adapter_config.json"), b"{\"r\": 8}");
    write(
        &output.join("adapter/adapter_model.safetensors"),
        &weights(),
    );
    write(&output.join("metrics.csv"), b"step,train_loss\n1,1.0\n");
    write(&output.join("result.csv"), b"step,train_loss\n1,1.0\n");
    Ok(Outcome {
        metrics,
        trained_tokens: 640,
    })
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}
