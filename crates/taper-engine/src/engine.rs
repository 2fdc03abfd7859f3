use std::{path::Path, sync::Arc};

use taper_core::{
    CheckpointRefused, Control, FieldError, JobSpec, Memory, Outcome, Plan, RunEvent, RunSink,
    RunSpec, SpecError, TrainError, Trainer, code,
};

use crate::{
    Error, Result,
    cache::Cache,
    checkpoint::{self, Fingerprint},
    prepare::{self, Models, OpenModel, Prepared, RowCache, inspect},
    train,
};

/// Files whose rows are kept in memory for the next job that names them.
const CACHED_FILES: usize = 4;
/// Data sets whose tokens are kept for the jobs that share them: of an experiment that holds rows out by seed there are several.
const CACHED_JOBS: usize = 8;
/// Bounds of the memory that are kept.
const CACHED_BOUNDS: usize = 64;

/// The trainer of taper.
pub struct Engine {
    models: Models,
    rows: RowCache,
    /// What `check` prepared, for `train` and for other jobs with the same data.
    prepared: Cache<Prepared>,
    /// Bounds of the memory, by everything that they depend on.
    bounds: Cache<Memory>,
}

impl Engine {
    pub fn new() -> Self {
        Self {
            models: Models::new(),
            rows: Cache::new(CACHED_FILES),
            prepared: Cache::new(CACHED_JOBS),
            bounds: Cache::new(CACHED_BOUNDS),
        }
    }

    fn plan(&self, run: &RunSpec, control: &Control) -> Result<Plan> {
        let opened = self.models.open(&run.model_dir, control)?;
        prepare::plan(&opened, &*self.prepare(&opened, run, control)?, run)
    }

    fn prepare(
        &self,
        opened: &OpenModel,
        run: &RunSpec,
        control: &Control,
    ) -> Result<Arc<Prepared>> {
        let key = prepare::key(opened, run);
        let make = || Prepared::of(opened, &self.rows, run, control);
        let prepared = self.prepared.get_or_make(&key, control, make)?;
        prepared.check(run)?;
        Ok(prepared)
    }

    fn bound(&self, run: &RunSpec) -> Result<Memory> {
        let control = Control::new();
        let opened = self.models.open(&run.model_dir, &control)?;
        let spec = &run.spec;
        let key = format!(
            "{} {} {} {}",
            prepare::key(&opened, run),
            serde_json::to_string(&spec.tuning)?,
            spec.training.per_device_train_batch_size,
            spec.training.gradient_accumulation_steps,
        );
        let make = || prepare::memory_bound(&opened, &self.rows, run);
        Ok(*self.bounds.get_or_make(&key, &control, make)?)
    }

    fn run(&self, run: &RunSpec, sink: &mut dyn RunSink, control: &Control) -> Result<Outcome> {
        let opened = self.models.open(&run.model_dir, control)?;
        let data = self.prepare(&opened, run, control)?;
        if let Some(dir) = &run.resume_from {
            let step = dir.file_name().unwrap_or_default().to_string_lossy();
            sink.event(RunEvent::Message(
                taper_core::Level::Info,
                format!("going on from the checkpoint {step}"),
            ));
        }
        if !data.folder.keeps_head && run.resume_from.is_none() && run.start_from.is_none() {
            let message = "the model's head tells other classes apart than the data; the run begins with a new one";
            sink.event(RunEvent::Message(
                taper_core::Level::Info,
                message.to_owned(),
            ));
        }
        train::train(run, &data, sink, control)
    }
}

/// What was found wrong, as an error of the request; what nobody foresaw is laid to the model.
fn refusal(error: Error) -> SpecError {
    match error {
        Error::Spec(spec) => spec,
        other => FieldError::new("model", code::INVALID_MODEL, other.to_string()).into(),
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self::new()
    }
}

impl Trainer for Engine {
    fn inspect(&self, run: &RunSpec) -> Result<JobSpec, SpecError> {
        inspect(&self.models, &self.rows, run).map_err(refusal)
    }

    fn memory_bound(&self, run: &RunSpec) -> Result<Memory, SpecError> {
        self.bound(run).map_err(refusal)
    }

    fn verify(
        &self,
        run: &RunSpec,
        checkpoint: &Path,
        control: &Control,
    ) -> Result<(), CheckpointRefused> {
        // What the run stands on cannot be read now, which says nothing of the checkpoint.
        let refused = |error: Error| CheckpointRefused::Unusable(error.to_string());
        let opened = self.models.open(&run.model_dir, control);
        let fingerprint = opened.and_then(|opened| Fingerprint::of(run, &opened.folder, control));
        checkpoint::verify(&fingerprint.map_err(refused)?, checkpoint, control)
    }

    fn check(&self, run: &RunSpec, control: &Control) -> Result<Plan, TrainError> {
        Ok(self.plan(run, control)?)
    }

    fn train(
        &self,
        run: &RunSpec,
        sink: &mut dyn RunSink,
        control: &Control,
    ) -> Result<Outcome, TrainError> {
        Ok(self.run(run, sink, control)?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use taper_core::{Command, Stop};

    use super::*;
    use crate::tests::Fixture;

    #[test]
    fn runs_that_read_the_same_rows_share_their_tokens() {
        let (fixture, engine) = (Fixture::new(0.0), Engine::new());
        let prepare = |name: &str, tuning, seed: u64| {
            let body = json!({"tuning": tuning, "training": {"seed": seed}});
            let run = fixture.run(name, 20, body);
            let control = Control::new();
            let opened = engine.models.open(&run.model_dir, &control).unwrap();
            engine.prepare(&opened, &run, &control).unwrap()
        };
        let first = prepare("lora", json!({"type": "lora"}), 1);
        for (name, tuning, seed) in [
            ("seed", json!({"type": "lora"}), 2),
            ("full", json!({"type": "full"}), 1),
            ("rank", json!({"type": "lora", "r": 2}), 3),
        ] {
            assert!(Arc::ptr_eq(&prepare(name, tuning, seed), &first), "{name}");
        }
    }

    #[test]
    fn a_cancel_reaches_who_waits_for_rows_that_another_reads() {
        let (fixture, engine) = (Fixture::new(0.0), Engine::new());
        let run = fixture.run("waits", 20, json!({}));
        let control = Control::new();
        control.give(Command::Cancel);
        let read = || {
            let checked = engine.check(&run, &control);
            assert_eq!(checked, Err(Stop::Cancelled.into()));
            Err(Error::model("not to be read"))
        };
        let key = prepare::rows_key(&run.training_file);
        let read = engine.rows.get_or_make(&key, &Control::new(), read);
        assert!(matches!(read, Err(Error::Spec(_))));
    }
}
