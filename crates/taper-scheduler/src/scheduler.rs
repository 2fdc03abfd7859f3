use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use taper_core::{Device, Trainer};
use taper_store::Store;
use tokio::{
    sync::{Notify, Semaphore, mpsc},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    SchedulerError,
    controls::Controls,
    intervals::KnownIntervals,
    ledger::Ledger,
    retention::{self, Retention},
    rung_scheduler,
    slot::Slot,
    validation,
    watchdog::{Patience, Pauses},
    worker::Worker,
};

/// Plans made for requests at the same time: they take the cores from training.
const PLANS: usize = 2;

/// Where models lie and what trains.
#[derive(Debug, Clone)]
pub struct SchedulerConfig {
    pub models_dir: PathBuf,
    /// One per worker.
    pub devices: Vec<Device>,
    /// Threads of each worker.
    pub threads: usize,
    /// Bytes of memory that jobs may take together; `None` = no limit.
    pub memory_limit: Option<u64>,
    pub patience: Patience,
    pub retention: Retention,
}

/// A handle to the scheduler and its workers; clones share it.
#[derive(Clone)]
pub struct Scheduler {
    pub(crate) shared: Arc<Shared>,
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

/// What requests, validation and slots have in common.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) trainer: Arc<dyn Trainer>,
    pub(crate) config: SchedulerConfig,
    pub(crate) controls: Controls,
    pub(crate) memory: Ledger,
    pub(crate) pauses: Pauses,
    pub(crate) intervals: KnownIntervals,
    /// One permit for each plan that may be made for a request at the same time.
    pub(crate) plans: Arc<Semaphore>,
    /// Rung when a job has been queued.
    pub(crate) queued: Notify,
    /// Rung when an experiment has been resumed.
    pub(crate) resumed: Notify,
    /// Ids of jobs to validate.
    pub(crate) unvalidated: mpsc::UnboundedSender<String>,
    pub(crate) stopping: CancellationToken,
}

impl Scheduler {
    /// Recovers what the last server left, then starts the workers.
    ///
    /// # Errors
    /// When the store refuses, or a worker's threads cannot be made.
    pub async fn start(
        store: Store,
        trainer: Arc<dyn Trainer>,
        config: SchedulerConfig,
    ) -> Result<Self, SchedulerError> {
        let recovered = store.recover().await?;
        if !(recovered.queued.is_empty() && recovered.failed.is_empty()) {
            tracing::warn!(?recovered, "jobs were running when the last server ended");
        }
        let (unvalidated, to_validate) = mpsc::unbounded_channel();
        for job in store.unvalidated_jobs().await? {
            // The receiver lies two lines above.
            drop(unvalidated.send(job));
        }
        let workers = (0..config.devices.len())
            .map(|index| Worker::start(index, config.threads))
            .collect::<Result<Vec<_>, _>>()?;
        let shared = Arc::new(Shared {
            store,
            trainer,
            config,
            controls: Controls::default(),
            memory: Ledger::default(),
            pauses: Pauses::default(),
            intervals: KnownIntervals::default(),
            plans: Arc::new(Semaphore::new(PLANS)),
            queued: Notify::new(),
            resumed: Notify::new(),
            unvalidated,
            stopping: CancellationToken::new(),
        });
        let mut tasks = vec![
            tokio::spawn(validation::run(shared.clone(), to_validate)),
            tokio::spawn(retention::run(shared.clone())),
            tokio::spawn(rung_scheduler::run(shared.clone())),
        ];
        for (worker, device) in workers.into_iter().zip(&shared.config.devices) {
            let slot = Slot::new(shared.clone(), worker, *device);
            tasks.push(tokio::spawn(slot.run()));
        }
        Ok(Self {
            shared,
            tasks: Arc::new(Mutex::new(tasks)),
        })
    }

    /// Stops the workers; running jobs go back into the queue, without that counting as a crash.
    pub async fn shutdown(&self) {
        self.shared.stopping.cancel();
        self.shared.controls.pause_all();
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the scheduler broke down");
            }
        }
    }
}
