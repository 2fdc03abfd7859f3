use std::{fs, io::Read, path::Path, thread, time::Duration};

use taper_core::{
    CheckpointFiles, CheckpointRefused, Control, Defaults, ErrorCode, FieldError, JobError,
    JobSpec, Level, Memory, Metrics, Outcome, Plan, RunEvent, RunSink, RunSpec, SpecError, Stop,
    TaskType, TrainError, Trainer,
};

/// Trains nothing, but reports and leaves files like a run of `training.max_steps` steps. `metadata.script` may say `wait` (report
/// once, then wait to be told to stop), `slow` (ten milliseconds a step), `fail` or `break down` (in the inspection). The accuracy is the
/// better, the nearer the learning rate is to 1e-3; one of 9 fails.
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
            let code = ErrorCode::InvalidTrainingFile;
            return Err(FieldError::new("training_file", code, message).into());
        }
        run.spec.clone().resolve(&Defaults {
            task_type: TaskType::SeqCls,
            target_modules: vec!["query".to_owned(), "value".to_owned()],
            model_max_length: 256,
            default_max_length: 256,
        })
    }

    fn memory_bound(&self, _: &RunSpec) -> Result<Memory, SpecError> {
        Ok(Memory::default())
    }

    fn verify(&self, _: &RunSpec, _: &Path, _: &Control) -> Result<(), CheckpointRefused> {
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
            Some("fail") => Err(not_finite()),
            _ if learning_rate(run) >= 9.0 => Err(not_finite()),
            _ => play(run, sink, control),
        }
    }
}

fn not_finite() -> TrainError {
    let message = "the loss is not finite at step 3; lower the learning rate";
    JobError::new(ErrorCode::NonFinite, message)
        .at_step(3)
        .into()
}

fn learning_rate(run: &RunSpec) -> f64 {
    run.spec.training.learning_rate.unwrap_or(1e-3)
}

fn accuracy(run: &RunSpec) -> f64 {
    let distance = (learning_rate(run) / 1e-3).log10().abs();
    0.75 - 0.1 * distance + 0.01 * (run.spec.training.seed % 7) as f64
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
    let last = run.pause_at_step.map_or(total, |step| step.min(total));
    if run.resume_from.is_none() {
        sink.event(RunEvent::Message(Level::Info, "Training starts".to_owned()));
    }
    for step in trained(run) + 1..=last {
        if script(run) == Some("slow") {
            thread::sleep(Duration::from_millis(10));
        }
        control.check()?;
        sink.event(RunEvent::Step(figures(step, total)));
    }
    let metrics = figures(last, total)
        .with("valid_loss", f64::NAN)
        .with("valid_accuracy", accuracy(run));
    sink.event(RunEvent::Evaluation {
        metrics: metrics.clone(),
        confusion: vec![vec![1, 0], vec![0, 1]],
    });
    let dir = run.checkpoint_dir(last);
    write(&dir.join("state.json"), b"{}");
    sink.checkpoint(CheckpointFiles {
        step: last,
        dir,
        metrics: metrics.clone(),
        superseded: Vec::new(),
    })?;
    if last < total {
        return Err(Stop::Reached.into());
    }
    let output = run.output_dir();
    write(&output.join("adapter/adapter_config.json"), b"{\"r\": 8}");
    write(
        &output.join("adapter/adapter_model.safetensors"),
        &weights(),
    );
    write(&output.join("metrics.csv"), b"step,train_loss\n1,1.0\n");
    write(&output.join("result.csv"), b"step,train_loss\n1,1.0\n");
    if run.validation_file.is_some() {
        let rows = validation_rows(accuracy(run));
        write(&output.join(RunSpec::VALIDATION_ROWS), rows.as_bytes());
    }
    Ok(Outcome {
        metrics: metrics.with("train_seconds", 2.0),
        trained_tokens: 640,
    })
}

/// The step of the checkpoint that a run goes on from, which its folder names.
fn trained(run: &RunSpec) -> u64 {
    let name = run.resume_from.as_deref().and_then(Path::file_name);
    let step = name.and_then(|name| name.to_str()?.strip_prefix("step-")?.parse().ok());
    step.unwrap_or(0)
}

/// A thousand rows, of which the first ones are right.
fn validation_rows(accuracy: f64) -> String {
    let mut rows = "row,line,loss,label_tokens,correct\n".to_owned();
    for row in 0..1000 {
        let correct = u8::from(f64::from(row) < 1000.0 * accuracy);
        rows += &format!("{row},{},0.5,1,{correct}\n", row + 1);
    }
    rows
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}
