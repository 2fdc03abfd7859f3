use std::{path::Path, sync::Arc};

use taper_core::{
    CheckpointRefused, Control, FieldError, JobSpec, Memory, Outcome, Plan, RunEvent, RunSink,
    RunSpec, SpecError, TrainError, Trainer, code,
};

use crate::{
    Error, Result,
    cache::Cache,
    fingerprint::Fingerprint,
    opened::{Models, OpenModel},
    planning,
    prepare::{self, Prepared, RowCache, inspect},
    state, trainer,
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
        let opened = self.models.open(&run.model_dir)?;
        planning::plan(&opened, &*self.prepare(&opened, run, control)?, run)
    }

    fn prepare(
        &self,
        opened: &OpenModel,
        run: &RunSpec,
        control: &Control,
    ) -> Result<Arc<Prepared>> {
        let goes_on = || Ok(control.check()?);
        let prepared =
            self.prepared
                .get_or_make_while(&prepare::key(opened, run), goes_on, || {
                    Prepared::of(opened, &self.rows, run, control)
                })?;
        prepared.check(run)?;
        Ok(prepared)
    }

    fn bound(&self, run: &RunSpec) -> Result<Memory> {
        let opened = self.models.open(&run.model_dir)?;
        let spec = &run.spec;
        let key = format!(
            "{} {} {} {}",
            prepare::key(&opened, run),
            serde_json::to_string(&spec.tuning)?,
            spec.training.per_device_train_batch_size,
            spec.training.gradient_accumulation_steps,
        );
        let bound = self
            .bounds
            .get_or_make(&key, || planning::memory_bound(&opened, &self.rows, run))?;
        Ok(*bound)
    }

    fn run(&self, run: &RunSpec, sink: &mut dyn RunSink, control: &Control) -> Result<Outcome> {
        let data = self.prepare(&*self.models.open(&run.model_dir)?, run, control)?;
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
        trainer::train(run, &data, sink, control)
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

    fn verify(&self, run: &RunSpec, checkpoint: &Path) -> Result<(), CheckpointRefused> {
        // What the run stands on cannot be read now, which says nothing of the checkpoint.
        let refused = |error: Error| CheckpointRefused::Unusable(error.to_string());
        let opened = self.models.open(&run.model_dir).map_err(refused)?;
        let fingerprint = Fingerprint::of(run, &opened.folder).map_err(refused)?;
        state::verify(&fingerprint, checkpoint)
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

    use super::*;
    use crate::tests::Fixture;

    #[test]
    fn runs_that_read_the_same_rows_share_their_tokens() {
        let (fixture, engine) = (Fixture::new(0.0), Engine::new());
        let prepare = |name: &str, tuning, seed: u64| {
            let body = json!({"tuning": tuning, "training": {"seed": seed}});
            let run = fixture.run(name, 20, body);
            let opened = engine.models.open(&run.model_dir).unwrap();
            engine.prepare(&opened, &run, &Control::new()).unwrap()
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
}
