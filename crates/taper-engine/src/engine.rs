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
/// Data sets whose tokens wait for their jobs' start.
const CACHED_JOBS: usize = 4;
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
        let prepared = self.prepared.get_or_make(&prepare::key(opened, run), || {
            Prepared::of(opened, &self.rows, run, control)
        })?;
        prepared.check(run)?;
        Ok(prepared)
    }

    fn bound(&self, run: &RunSpec) -> Result<Memory> {
        let opened = self.models.open(&run.model_dir)?;
        let spec = &run.spec;
        let key = format!(
            "{} {} {}",
            prepare::key(&opened, run),
            serde_json::to_string(&spec.tuning)?,
            spec.training.per_device_train_batch_size,
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
