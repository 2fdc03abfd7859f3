//! Experiments: made as ordinary jobs, looked at and acted on as a whole.

use taper_core::{
    Action, Command, Comparison, Experiment, ExperimentRequest, JobSpec, JobState, Project, Reason,
    Run, Wish,
    experiment::{ExperimentProgress, overall, seconds_left},
};
use taper_store::{
    ExperimentRecord, Job, LiveEvents, NewExperiment, Once, Page, Scope, Store, StoreError,
};
use tokio::time::{Instant, timeout_at};

use crate::{
    Scheduler, SchedulerError,
    actions::PATIENCE,
    intervals::Wait,
    submit::{Asked, blocking, unknown_file},
};

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

impl Scheduler {
    /// Accepts an experiment after a quick look at each of its configurations.
    ///
    /// # Errors
    /// [`SchedulerError::Spec`] with the field that is wrong.
    pub async fn submit_experiment(
        &self,
        project: Project,
        request: ExperimentRequest,
        once: Once,
    ) -> Result<ExperimentView, SchedulerError> {
        let (spec, jobs) = self.settle(&project, request).await?;
        let new = NewExperiment {
            spec,
            project,
            jobs,
            once: Some(once),
        };
        let training_file = new.spec.training_file.clone();
        let created = self.shared.store.create_experiment(new).await;
        let record = created.map_err(|error| unknown_file(error, &training_file))?;
        let view = self.view(record, at_once()).await?;
        for job in &view.jobs {
            // After a shutdown nobody listens any more, and the next start validates it.
            drop(self.shared.unvalidated.send(job.id.clone()));
        }
        Ok(view)
    }

    /// What an experiment would compare; nothing is kept.
    ///
    /// # Errors
    /// [`SchedulerError::Spec`] with the field that is wrong, as for a real submission.
    pub async fn plan_experiment(
        &self,
        project: &Project,
        request: ExperimentRequest,
    ) -> Result<Experiment, SchedulerError> {
        Ok(self.settle(project, request).await?.0)
    }

    /// Looks at every configuration, and fills in the values in force.
    async fn settle(
        &self,
        project: &Project,
        request: ExperimentRequest,
    ) -> Result<(Experiment, Vec<(usize, JobSpec)>), SchedulerError> {
        if self.shared.stopping.is_cancelled() {
            return Err(SchedulerError::Stopping);
        }
        let asked = Asked::default();
        let mut specs = Vec::new();
        for (configuration, spec) in request.specs().enumerate() {
            match self.shared.inspect(spec.clone(), project, &asked.0).await {
                Ok(run) => specs.push(run.spec),
                Err(SchedulerError::Spec(error)) => {
                    return Err(request.localized(configuration, &error).into());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(blocking(move || request.settle(specs)).await??)
    }

    /// Finds an experiment with all that is known of its runs; for intervals that are being made it waits up to 2 s.
    ///
    /// # Errors
    /// [`SchedulerError::NoExperiment`]
    pub async fn experiment(
        &self,
        scope: &Scope,
        id: &str,
    ) -> Result<ExperimentView, SchedulerError> {
        let record = self.record(scope, id).await?;
        self.view(record, soon()).await
    }

    /// The same with all intervals, however long they take.
    ///
    /// # Errors
    /// [`SchedulerError::NoExperiment`]
    pub async fn whole_experiment(
        &self,
        scope: &Scope,
        id: &str,
    ) -> Result<ExperimentView, SchedulerError> {
        let record = self.record(scope, id).await?;
        self.view(record, Wait::Whole).await
    }

    async fn record(&self, scope: &Scope, id: &str) -> Result<ExperimentRecord, SchedulerError> {
        let record = self.shared.store.experiment(scope, id).await?;
        record.ok_or_else(|| SchedulerError::NoExperiment(id.to_owned()))
    }

    /// Lists experiments, newest first; for intervals that are being made it waits up to 2 s altogether.
    ///
    /// # Errors
    /// [`StoreError::UnknownCursor`] when `after` names no experiment.
    pub async fn experiments(
        &self,
        scope: &Scope,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<ExperimentView>, SchedulerError> {
        let page = self.shared.store.experiments(scope, after, limit).await?;
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
    /// [`SchedulerError::WrongExperimentState`] when all have ended, and not all of them by being cancelled.
    pub async fn cancel_experiment(
        &self,
        scope: &Scope,
        id: &str,
    ) -> Result<ExperimentView, SchedulerError> {
        self.stop_experiment(scope, id, Action::Cancel, Wish::Cancel)
            .await
    }

    /// Pauses all runs that have not ended; for running ones it waits up to 2 s for their workers.
    ///
    /// # Errors
    /// [`SchedulerError::WrongExperimentState`] when all have ended.
    pub async fn pause_experiment(
        &self,
        scope: &Scope,
        id: &str,
    ) -> Result<ExperimentView, SchedulerError> {
        self.stop_experiment(scope, id, Action::Pause, Wish::Pause)
            .await
    }

    /// Puts all paused runs back into the queue; those at a rung go on once it is decided upon, and those that have yet to leave their
    /// workers for the pause stay there.
    ///
    /// # Errors
    /// [`SchedulerError::WrongExperimentState`] when it is not paused.
    pub async fn resume_experiment(
        &self,
        scope: &Scope,
        id: &str,
    ) -> Result<ExperimentView, SchedulerError> {
        let standing = self.standing(scope, id).await?;
        let by_hand = |job: &Job| {
            let is_paused = job.state == JobState::Paused && job.reason != Some(Reason::Rung);
            is_paused || job.wish == Some(Wish::Pause)
        };
        if standing.state != JobState::Paused && !standing.jobs.iter().any(by_hand) {
            return Err(standing.refused(Action::Resume));
        }
        let staying = self
            .shared
            .store
            .resume_experiment(&standing.record)
            .await?;
        let controls = &self.shared.controls;
        controls.let_stay(&staying, &self.shared.stopping);
        self.shared.queued.notify_waiters();
        self.shared.queued.notify_one();
        self.shared.resumed.notify_one();
        let record = self.record(scope, id).await?;
        self.view(record, at_once()).await
    }

    /// Forgets an ended experiment with all its jobs, their models and all that they have left.
    ///
    /// # Errors
    /// [`SchedulerError::WrongExperimentState`] when a run has not ended.
    pub async fn delete_experiment(&self, scope: &Scope, id: &str) -> Result<(), SchedulerError> {
        let standing = self.standing(scope, id).await?;
        match self.shared.delete_experiment(&standing.record).await? {
            true => Ok(()),
            false => Err(standing.refused(Action::Delete)),
        }
    }

    async fn stop_experiment(
        &self,
        scope: &Scope,
        id: &str,
        action: Action,
        wish: Wish,
    ) -> Result<ExperimentView, SchedulerError> {
        let standing = self.standing(scope, id).await?;
        if standing.state.is_terminal() && !action.is_done(standing.state) {
            return Err(standing.refused(action));
        }
        let store = &self.shared.store;
        let events = store.subscribe(scope);
        let stopped = store.stop_experiment(&standing.record, wish).await?;
        let (held, gone): (Vec<Job>, Vec<Job>) =
            stopped.into_iter().partition(|job| job.wish.is_some());
        for job in held.iter().filter(|job| job.state == JobState::Running) {
            self.shared.controls.of(job).give(match wish {
                Wish::Pause => Command::Pause,
                Wish::Cancel => Command::Cancel,
            });
        }
        for job in &gone {
            // Its validation may be under way.
            self.shared.controls.of(job).give(Command::Cancel);
            self.shared.controls.forget(job);
        }
        self.wait_until_left(events, held).await?;
        let record = self.record(scope, id).await?;
        self.view(record, at_once()).await
    }

    /// Waits a little until jobs have left the state that they are in.
    async fn wait_until_left(
        &self,
        mut events: LiveEvents,
        mut held: Vec<Job>,
    ) -> Result<(), StoreError> {
        let end = Instant::now() + PATIENCE;
        while !held.is_empty() {
            let mut still = Vec::new();
            for job in held {
                let now = self.shared.store.job(&Scope::All, &job.id).await?;
                match now.is_some_and(|now| now.state == job.state) {
                    true => still.push(job),
                    false => self.shared.controls.forget(&job),
                }
            }
            held = still;
            // One that takes longer is shown as it is.
            if held.is_empty() || timeout_at(end, events.recv()).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn view(
        &self,
        record: ExperimentRecord,
        wait: Wait,
    ) -> Result<ExperimentView, SchedulerError> {
        let Standing {
            record,
            jobs,
            runs,
            state,
        } = Standing::of(&self.shared.store, record).await?;
        let told = self
            .shared
            .intervals_of(&record, &jobs, &runs, wait)
            .await?;
        let mut comparison = Comparison::of(&record.spec, &runs, &told.intervals);
        // It rests on all intervals.
        comparison.recommendation = comparison.recommendation.filter(|_| told.is_whole);
        let workers = self.shared.config.devices.len() as u64;
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

    async fn standing(&self, scope: &Scope, id: &str) -> Result<Standing, SchedulerError> {
        let record = self.record(scope, id).await?;
        Ok(Standing::of(&self.shared.store, record).await?)
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

    fn refused(self, action: Action) -> SchedulerError {
        SchedulerError::WrongExperimentState {
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
