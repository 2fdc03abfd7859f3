use taper_core::{
    Control, JobSpec, Outcome, Plan, RunEvent, RunSink, RunSpec, SpecError, TrainError, Trainer,
};

use crate::{
    Error, Result,
    cache::Cache,
    prepare::{Prepared, RowCache, inspect},
    trainer,
};

/// Files whose rows are kept in memory for the next job that names them.
const CACHED_FILES: usize = 4;
/// Jobs whose tokens wait for their start.
const CACHED_JOBS: usize = 4;

/// The trainer of taper.
pub struct Engine {
    rows: RowCache,
    /// What `check` prepared, by job, for `train` to take.
    prepared: Cache<Prepared>,
}

impl Engine {
    pub fn new() -> Self {
        Self {
            rows: Cache::new(CACHED_FILES),
            prepared: Cache::new(CACHED_JOBS),
        }
    }

    fn plan(&self, run: &RunSpec, control: &Control) -> Result<Plan> {
        let data = self
            .prepared
            .get_or_make(&run.job_id, || Prepared::of(&self.rows, run, control))?;
        let model = data.model(run, &candle_core::Device::Cpu)?;
        Ok(data.plan(run, &model))
    }

    fn run(&self, run: &RunSpec, sink: &mut dyn RunSink, control: &Control) -> Result<Outcome> {
        let data = match self.prepared.take(&run.job_id) {
            Some(data) => data,
            None => std::sync::Arc::new(Prepared::of(&self.rows, run, control)?),
        };
        if let Some(dir) = &run.resume_from {
            let step = dir.file_name().unwrap_or_default().to_string_lossy();
            sink.event(RunEvent::Message(
                taper_core::Level::Info,
                format!("going on from the checkpoint {step}"),
            ));
        }
        trainer::train(run, &data, sink, control)
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self::new()
    }
}

impl Trainer for Engine {
    fn inspect(&self, run: &RunSpec) -> Result<JobSpec, SpecError> {
        inspect(&self.rows, run).map_err(|error| match error {
            Error::Spec(spec) => spec,
            other => taper_core::FieldError::new(
                "model",
                taper_core::code::INVALID_MODEL,
                other.to_string(),
            )
            .into(),
        })
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
