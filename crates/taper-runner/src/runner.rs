use std::{path::PathBuf, sync::Arc};

use taper_core::{Device, JobSpec, Trainer};
use taper_store::{Job, Store};

use crate::RunnerError;

/// Where models lie and what trains.
#[derive(Debug, Clone)]
pub struct RunnerConfig {
    pub models_dir: PathBuf,
    /// One per worker.
    pub devices: Vec<Device>,
    /// Threads of each worker.
    pub threads: usize,
}

/// A handle to the scheduler and its workers; clones share it.
#[derive(Clone)]
pub struct Runner {}

impl Runner {
    /// Recovers what the last server left, then starts the workers.
    pub async fn start(
        store: Store,
        trainer: Arc<dyn Trainer>,
        config: RunnerConfig,
    ) -> Result<Self, RunnerError> {
        let _ = (store, trainer, config);
        unimplemented!()
    }

    /// Accepts a job after a quick look at its model and files.
    ///
    /// # Errors
    /// [`RunnerError::Spec`] with the field that is wrong.
    pub async fn submit(&self, spec: JobSpec) -> Result<Job, RunnerError> {
        unimplemented!("{spec:?}")
    }

    /// Cancels a job; for a running one it waits up to 2 s for the worker and shows the state of that moment.
    ///
    /// # Errors
    /// [`RunnerError::WrongState`] when the job has ended otherwise.
    pub async fn cancel(&self, id: &str) -> Result<Job, RunnerError> {
        unimplemented!("{id}")
    }

    /// Stops the workers; running jobs go back into the queue.
    pub async fn shutdown(&self) {
        unimplemented!()
    }
}
