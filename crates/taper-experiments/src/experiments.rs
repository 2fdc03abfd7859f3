//! Experiments: made as ordinary jobs, looked at and acted on as a whole.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use taper_core::{
    Action, Comparison, Experiment, ExperimentRequest, JobSpec, JobState, Project, Reason,
    RequestedAction, Run,
    experiment::{ExperimentProgress, overall, seconds_left},
};
use taper_scheduler::{Scheduler, SchedulerError};
use taper_store::{ExperimentRecord, Job, NewExperiment, Once, Page, Scope, Store, StoreError};
use tokio::{sync::Notify, task::JoinHandle, time::Instant};

use crate::{
    ExperimentError,
    intervals::{KnownIntervals, Wait},
    rung_scheduler::RungScheduler,
};

/// How long a request waits for intervals that are being made.
const PATIENCE: Duration = Duration::from_secs(2);

/// An experiment as it stands.
#[derive(Debug, Clone)]
pub struct ExperimentView {
    pub record: ExperimentRecord,
    /// In the order of their configurations and seeds.
    pub jobs: Vec<Job>,
    pub state: JobState,
    pub progress: ExperimentProgress,
    /// Seconds until its end, about; only while it runs or is queued.
    pub seconds_left: Option<f64>,
    pub comparison: Comparison,
}

/// A handle to the experiments; clones share it.
#[derive(Clone)]
pub struct Experiments {
    store: Store,
    scheduler: Scheduler,
    intervals: KnownIntervals,
    /// Rung when an experiment has been resumed.
    resumed: Arc<Notify>,
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Experiments {
    /// Begins to decide which runs go on.
    pub fn start(store: Store, scheduler: Scheduler) -> Self {
        let intervals = KnownIntervals::new(store.clone(), scheduler.stopping());
        let resumed = Arc::new(Notify::new());
        let rungs = RungScheduler {
            store: store.clone(),
            scheduler: scheduler.clone(),
            resumed: resumed.clone(),
        };
        let tasks = vec![
            tokio::spawn(rungs.run()),
            tokio::spawn(intervals.clone().forget_gone()),
        ];
        Self {
            store,
            scheduler,
            intervals,
            resumed,
            tasks: Arc::new(Mutex::new(tasks)),
        }
    }

    /// Waits until nothing is decided any more; it is the scheduler that has to be told to stop.
    pub async fn shutdown(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the experiments broke down");
            }
        }
    }

    /// Accepts an experiment after a quick look at each of its configurations.
    ///
    /// # Errors
    /// [`ExperimentError::Spec`] with the field that is wrong.
    pub async fn submit(
        &self,
        project: Project,
        request: ExperimentRequest,
        once: Once,
    ) -> Result<ExperimentView, ExperimentError> {
        let (spec, jobs) = self.inspect(&project, request).await?;
        let new = NewExperiment {
            spec,
            project,
            jobs,
            once: Some(once),
        };
        let training_file = new.spec.training_file.clone();
        let created = self.store.create_experiment(new).await;
        let record = created.map_err(|error| SchedulerError::creating(error, &training_file))?;
        let view = self.view(record, at_once()).await?;
        self.scheduler.validate(&view.jobs);
        Ok(view)
    }

    /// What an experiment would compare; nothing is kept.
    ///
    /// # Errors
    /// [`ExperimentError::Spec`] with the field that is wrong, as for a real submission.
    pub async fn plan(
        &self,
        project: &Project,
        request: ExperimentRequest,
    ) -> Result<Experiment, ExperimentError> {
        Ok(self.inspect(project, request).await?.0)
    }

    /// Looks at every configuration, and fills in the values in force.
    async fn inspect(
        &self,
        project: &Project,
        request: ExperimentRequest,
    ) -> Result<(Experiment, Vec<(usize, JobSpec)>), ExperimentError> {
        let mut specs = Vec::new();
        for (configuration, spec) in request.specs().enumerate() {
            match self.scheduler.inspect(spec.clone(), project).await {
                Ok(spec) => specs.push(spec),
                Err(SchedulerError::Spec(error)) => {
                    return Err(request.localized(configuration, &error).into());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(tokio::task::spawn_blocking(move || request.settle(specs)).await??)
    }

    /// Finds an experiment with all that is known of its runs; for intervals that are being made it waits up to 2 s.
    ///
    /// # Errors
    /// [`ExperimentError::NoExperiment`]
    pub async fn find(&self, scope: &Scope, id: &str) -> Result<ExperimentView, ExperimentError> {
        let record = self.record(scope, id).await?;
        self.view(record, soon()).await
    }

    /// The same with all intervals, however long they take.
    ///
    /// # Errors
    /// [`ExperimentError::NoExperiment`]
    pub async fn find_whole(
        &self,
        scope: &Scope,
        id: &str,
    ) -> Result<ExperimentView, ExperimentError> {
        let record = self.record(scope, id).await?;
        self.view(record, Wait::Whole).await
    }

    async fn record(&self, scope: &Scope, id: &str) -> Result<ExperimentRecord, ExperimentError> {
        let record = self.store.experiment(scope, id).await?;
        record.ok_or_else(|| ExperimentError::NoExperiment(id.to_owned()))
    }

    /// Lists experiments, newest first; for intervals that are being made it waits up to 2 s altogether.
    ///
    /// # Errors
    /// [`StoreError::UnknownCursor`] when `after` names no experiment.
    pub async fn list(
        &self,
        scope: &Scope,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<ExperimentView>, ExperimentError> {
        let page = self.store.experiments(scope, after, limit).await?;
        let mut data = Vec::with_capacity(page.data.len());
        let wait = soon();
        for record in page.data {
            data.push(self.view(record, wait).await?);
        }
        Ok(Page {
            data,
            has_more: page.has_more,
        })
    }

    /// Cancels all runs that have not ended; for running ones it waits up to 2 s for their workers.
    ///
    /// # Errors
    /// [`ExperimentError::WrongState`] when all have ended, and not all of them by being cancelled.
    pub async fn cancel(&self, scope: &Scope, id: &str) -> Result<ExperimentView, ExperimentError> {
        self.stop(scope, id, Action::Cancel, RequestedAction::Cancel)
            .await
    }

    /// Pauses all runs that have not ended; for running ones it waits up to 2 s for their workers.
    ///
    /// # Errors
    /// [`ExperimentError::WrongState`] when all have ended.
    pub async fn pause(&self, scope: &Scope, id: &str) -> Result<ExperimentView, ExperimentError> {
        self.stop(scope, id, Action::Pause, RequestedAction::Pause)
            .await
    }

    /// Puts all paused runs back into the queue; those at a rung go on once it is decided upon, and those that have yet to leave their
    /// workers for the pause stay there.
    ///
    /// # Errors
    /// [`ExperimentError::WrongState`] when it is not paused.
    pub async fn resume(&self, scope: &Scope, id: &str) -> Result<ExperimentView, ExperimentError> {
        let standing = self.standing(scope, id).await?;
        let by_hand = |job: &Job| {
            let is_paused = job.state == JobState::Paused && job.reason != Some(Reason::Rung);
            is_paused || job.requested == Some(RequestedAction::Pause)
        };
        if standing.state != JobState::Paused && !standing.jobs.iter().any(by_hand) {
            return Err(standing.refused(Action::Resume));
        }
        let staying = self.store.resume_experiment(&standing.record).await?;
        self.scheduler.follow_resume(&staying).await;
        self.resumed.notify_one();
        let record = self.record(scope, id).await?;
        self.view(record, at_once()).await
    }

    /// Forgets an ended experiment with all its jobs, their models and all that they have left.
    ///
    /// # Errors
    /// [`ExperimentError::WrongState`] when a run has not ended.
    pub async fn delete(&self, scope: &Scope, id: &str) -> Result<(), ExperimentError> {
        let standing = self.standing(scope, id).await?;
        match self.store.delete_experiment(&standing.record).await? {
            true => Ok(()),
            false => Err(standing.refused(Action::Delete)),
        }
    }

    async fn stop(
        &self,
        scope: &Scope,
        id: &str,
        action: Action,
        requested: RequestedAction,
    ) -> Result<ExperimentView, ExperimentError> {
        let standing = self.standing(scope, id).await?;
        if standing.state.is_terminal() && !action.is_done(standing.state) {
            return Err(standing.refused(action));
        }
        let events = self.store.subscribe(scope);
        let stopped = self
            .store
            .stop_experiment(&standing.record, requested)
            .await?;
        self.scheduler.follow(stopped, events).await?;
        let record = self.record(scope, id).await?;
        self.view(record, at_once()).await
    }

    async fn view(
        &self,
        record: ExperimentRecord,
        wait: Wait,
    ) -> Result<ExperimentView, ExperimentError> {
        let Standing {
            record,
            jobs,
            runs,
            state,
        } = Standing::of(&self.store, record).await?;
        let told = self.intervals.of(&record, &jobs, &runs, wait).await?;
        let mut comparison = Comparison::of(&record.spec, &runs, &told.intervals);
        // It rests on all intervals.
        comparison.recommendation = comparison.recommendation.filter(|_| told.is_whole);
        let workers = self.scheduler.places() as u64;
        let goes_on = matches!(state, JobState::Queued | JobState::Running);
        Ok(ExperimentView {
            progress: ExperimentProgress::of(&record.spec, &runs),
            seconds_left: seconds_left(&record.spec, &runs, workers).filter(|_| goes_on),
            comparison,
            record,
            jobs,
            state,
        })
    }

    async fn standing(&self, scope: &Scope, id: &str) -> Result<Standing, ExperimentError> {
        let record = self.record(scope, id).await?;
        Ok(Standing::of(&self.store, record).await?)
    }
}

/// An experiment without what its runs have come to: all that an action looks at.
struct Standing {
    record: ExperimentRecord,
    jobs: Vec<Job>,
    runs: Vec<Run>,
    state: JobState,
}

impl Standing {
    async fn of(store: &Store, record: ExperimentRecord) -> Result<Self, StoreError> {
        let jobs = store.experiment_jobs(&record).await?;
        let runs: Vec<_> = jobs.iter().filter_map(Job::run).collect();
        Ok(Self {
            state: overall(runs.iter(), record.paused),
            record,
            jobs,
            runs,
        })
    }

    fn refused(self, action: Action) -> ExperimentError {
        ExperimentError::WrongState {
            id: self.record.id,
            state: self.state,
            action,
        }
    }
}

/// Waits as long as a small experiment's intervals take.
fn soon() -> Wait {
    Wait::Until(Instant::now() + PATIENCE)
}

/// Takes the intervals that are there.
fn at_once() -> Wait {
    Wait::Until(Instant::now())
}
