//! Puts the scheduler together: who owns what, and who uses whom.

use std::sync::{Arc, Mutex};

use taper_core::{Device, Trainer};
use taper_store::{Job, Store};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    actions::Actions,
    admission::Admission,
    attempts::Attempts,
    base_model::BaseModels,
    conclusion::Conclusion,
    config::SchedulerConfig,
    executors::{Executor, Place},
    model_folders::ModelFolders,
    models::Models,
    preparation::Preparation,
    queue::Queue,
    reservations::Reservations,
    resume::ResumePoints,
    retention::Expiry,
    shortage::FruitlessPauses,
    slot::{Attendants, Slot},
    sources::Sources,
    submission::{Plans, Submission},
    validation::Validation,
    validation_queue::ValidationQueue,
    watchdog::Watchdog,
};

/// What runs are looked at for where there is no place to run.
const NOWHERE: Place = Place {
    device: Device::Cpu,
    threads: 1,
};

/// The owners that requests come to.
pub(crate) struct Parts {
    pub(crate) submission: Submission,
    pub(crate) actions: Actions,
    pub(crate) models: Models,
    pub(crate) attempts: Arc<Attempts>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) reservations: Reservations,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) validations: ValidationQueue,
    pub(crate) stopping: CancellationToken,
    pub(crate) tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// What several owners use.
struct Ground {
    store: Store,
    trainer: Arc<dyn Trainer>,
    executor: Arc<dyn Executor>,
    folders: ModelFolders,
    sources: Arc<Sources>,
    admission: Admission,
    attempts: Arc<Attempts>,
    reservations: Reservations,
    queue: Arc<Queue>,
    watchdog: Arc<Watchdog>,
    validations: ValidationQueue,
    stopping: CancellationToken,
}

impl Parts {
    /// Puts the owners together and begins to validate, to run and to delete. `running` are the jobs that the executor has already.
    pub(crate) fn start(
        store: Store,
        trainer: Arc<dyn Trainer>,
        executor: Arc<dyn Executor>,
        config: SchedulerConfig,
        running: Vec<Job>,
    ) -> Self {
        let (validations, to_validate) = ValidationQueue::new();
        let retention = config.retention;
        let ground = Ground::new(store, trainer, executor, config, running, validations);
        let expiry = Expiry {
            store: ground.store.clone(),
            retention,
            stopping: ground.stopping.clone(),
        };
        let mut tasks = vec![
            tokio::spawn(ground.validation().run(to_validate)),
            tokio::spawn(expiry.run()),
        ];
        tasks.extend(ground.slots().map(|slot| tokio::spawn(slot.run())));
        ground.into_parts(tasks)
    }
}

impl Ground {
    fn new(
        store: Store,
        trainer: Arc<dyn Trainer>,
        executor: Arc<dyn Executor>,
        config: SchedulerConfig,
        running: Vec<Job>,
        validations: ValidationQueue,
    ) -> Self {
        let stopping = CancellationToken::new();
        let folders = ModelFolders::new(config.models_dir);
        let base_models = BaseModels {
            store: store.clone(),
            folders: folders.clone(),
        };
        let attempts = Arc::new(Attempts::new(executor.clone(), stopping.clone()));
        let reservations = Reservations::default();
        let memory = config.memory_limit;
        Self {
            sources: Arc::new(Sources {
                store: store.clone(),
                base_models,
                place: executor.places().first().copied().unwrap_or(NOWHERE),
            }),
            admission: Admission {
                trainer: trainer.clone(),
                memory_limit: memory,
                disk_limit: store.limits().max_bytes,
            },
            queue: Arc::new(Queue::new(
                store.clone(),
                reservations.clone(),
                memory,
                running,
            )),
            watchdog: Arc::new(Watchdog {
                store: store.clone(),
                attempts: attempts.clone(),
                patience: config.patience,
                stopping: stopping.clone(),
            }),
            store,
            trainer,
            executor,
            folders,
            attempts,
            reservations,
            validations,
            stopping,
        }
    }

    fn validation(&self) -> Validation {
        Validation {
            store: self.store.clone(),
            trainer: self.trainer.clone(),
            sources: self.sources.clone(),
            admission: self.admission.clone(),
            attempts: self.attempts.clone(),
            queue: self.queue.clone(),
            watchdog: self.watchdog.clone(),
            validations: self.validations.clone(),
            stopping: self.stopping.clone(),
        }
    }

    fn attendants(&self) -> Attendants {
        Attendants {
            store: self.store.clone(),
            queue: self.queue.clone(),
            attempts: self.attempts.clone(),
            executor: self.executor.clone(),
            watchdog: self.watchdog.clone(),
            preparation: Preparation {
                store: self.store.clone(),
                sources: self.sources.clone(),
                resume_points: ResumePoints {
                    store: self.store.clone(),
                    trainer: self.trainer.clone(),
                },
                stopping: self.stopping.clone(),
            },
            conclusion: Conclusion {
                store: self.store.clone(),
                watchdog: self.watchdog.clone(),
                pauses: FruitlessPauses::default(),
                stopping: self.stopping.clone(),
            },
            stopping: self.stopping.clone(),
        }
    }

    /// One for each place of the executor.
    fn slots(&self) -> impl Iterator<Item = Slot> {
        let attendants = Arc::new(self.attendants());
        let places = self.executor.places().iter().enumerate();
        places.map(move |(index, place)| Slot {
            attendants: attendants.clone(),
            index,
            place: *place,
        })
    }

    fn into_parts(self, tasks: Vec<JoinHandle<()>>) -> Parts {
        Parts {
            submission: Submission {
                store: self.store.clone(),
                trainer: self.trainer,
                sources: self.sources,
                admission: self.admission,
                validations: self.validations.clone(),
                plans: Plans::default(),
                stopping: self.stopping.clone(),
            },
            actions: Actions {
                store: self.store.clone(),
                attempts: self.attempts.clone(),
                queue: self.queue.clone(),
                validations: self.validations.clone(),
            },
            models: Models {
                store: self.store,
                folders: self.folders,
            },
            attempts: self.attempts,
            queue: self.queue,
            reservations: self.reservations,
            executor: self.executor,
            validations: self.validations,
            stopping: self.stopping,
            tasks: Mutex::new(tasks),
        }
    }
}
