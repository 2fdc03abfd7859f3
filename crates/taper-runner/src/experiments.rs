//! Experiments: made as ordinary jobs, looked at and acted on as a whole.

use taper_core::{
    Action, Command, Comparison, Experiment, ExperimentRequest, JobSpec, JobState, Project, Reason,
    Wish,
    experiment::{ExperimentProgress, overall, seconds_left},
};
use taper_store::{
    ExperimentRecord, Job, LiveEvents, NewExperiment, Once, Page, Scope, StoreError,
};
use tokio::time::{Instant, timeout_at};

use crate::{
    Runner, RunnerError,
    actions::PATIENCE,
    submit::{Asked, unknown_file},
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

impl Runner {
    /// Accepts an experiment after a quick look at each of its configurations.
    ///
    /// # Errors
    /// [`RunnerError::Spec`] with the field that is wrong.
    pub async fn submit_experiment(
        &self,
        project: Project,
        request: ExperimentRequest,
        once: Once,
    ) -> Result<ExperimentView, RunnerError> {
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
        let view = self.view(record).await?;
        for job in &view.jobs {
            // After a shutdown nobody listens any more, and the next start validates it.
            drop(self.shared.unvalidated.send(job.id.clone()));
        }
        Ok(view)
    }

    /// What an experiment would compare; nothing is kept.
    ///
    /// # Errors
    /// [`RunnerError::Spec`] with the field that is wrong, as for a real submission.
    pub async fn plan_experiment(
        &self,
        project: &Project,
        request: ExperimentRequest,
    ) -> Result<Experiment, RunnerError> {
        Ok(self.settle(project, request).await?.0)
    }

    /// Looks at every configuration, and fills in the values in force.
    async fn settle(
        &self,
        project: &Project,
        request: ExperimentRequest,
    ) -> Result<(Experiment, Vec<(usize, JobSpec)>), RunnerError> {
        if self.shared.stopping.is_cancelled() {
            return Err(RunnerError::Stopping);
        }
        let asked = Asked::default();
        let mut specs = Vec::new();
        for (configuration, spec) in request.specs().enumerate() {
            match self.shared.inspect(spec.clone(), project, &asked.0).await {
                Ok(run) => specs.push(run.spec),
                Err(RunnerError::Spec(error)) => {
                    return Err(request.localized(configuration, &error).into());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(request.settle(specs)?)
    }

    /// Finds an experiment with all that is known of its runs.
    ///
    /// # Errors
    /// [`RunnerError::NoExperiment`]
    pub async fn experiment(&self, scope: &Scope, id: &str) -> Result<ExperimentView, RunnerError> {
        let record = self.shared.store.experiment(scope, id).await?;
        let record = record.ok_or_else(|| RunnerError::NoExperiment(id.to_owned()))?;
        self.view(record).await
    }

    /// Lists experiments, newest first.
    ///
    /// # Errors
    /// [`StoreError::UnknownCursor`] when `after` names no experiment.
    pub async fn experiments(
        &self,
        scope: &Scope,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<ExperimentView>, RunnerError> {
        let page = self.shared.store.experiments(scope, after, limit).await?;
        let mut data = Vec::with_capacity(page.data.len());
        for record in page.data {
            data.push(self.view(record).await?);
        }
        Ok(Page {
            data,
            has_more: page.has_more,
        })
    }

    /// Cancels all runs that have not ended; for running ones it waits up to 2 s for their workers.
    ///
    /// # Errors
    /// [`RunnerError::WrongExperimentState`] when all have ended, and not all of them by being cancelled.
    pub async fn cancel_experiment(
        &self,
        scope: &Scope,
        id: &str,
    ) -> Result<ExperimentView, RunnerError> {
        self.stop_experiment(scope, id, Action::Cancel, Wish::Cancel)
            .await
    }

    /// Pauses all runs that have not ended; for running ones it waits up to 2 s for their workers.
    ///
    /// # Errors
    /// [`RunnerError::WrongExperimentState`] when all have ended.
    pub async fn pause_experiment(
        &self,
        scope: &Scope,
        id: &str,
    ) -> Result<ExperimentView, RunnerError> {
        self.stop_experiment(scope, id, Action::Pause, Wish::Pause)
            .await
    }

    /// Puts all paused runs back into the queue; those at a rung go on once it is decided upon, and those that have yet to leave their
    /// workers for the pause stay there.
    ///
    /// # Errors
    /// [`RunnerError::WrongExperimentState`] when it is not paused.
    pub async fn resume_experiment(
        &self,
        scope: &Scope,
        id: &str,
    ) -> Result<ExperimentView, RunnerError> {
        let view = self.experiment(scope, id).await?;
        let by_hand = |job: &Job| {
            let is_paused = job.state == JobState::Paused && job.reason != Some(Reason::Rung);
            is_paused || job.wish == Some(Wish::Pause)
        };
        if view.state != JobState::Paused && !view.jobs.iter().any(by_hand) {
            return Err(wrong_state(&view, Action::Resume));
        }
        let staying = self.shared.store.resume_experiment(&view.record).await?;
        let controls = &self.shared.controls;
        controls.let_stay(&staying, &self.shared.stopping);
        self.shared.queued.notify_waiters();
        self.shared.queued.notify_one();
        self.shared.resumed.notify_one();
        self.experiment(scope, id).await
    }

    /// Forgets an ended experiment with all its jobs, their models and all that they have left.
    ///
    /// # Errors
    /// [`RunnerError::WrongExperimentState`] when a run has not ended.
    pub async fn delete_experiment(&self, scope: &Scope, id: &str) -> Result<(), RunnerError> {
        let view = self.experiment(scope, id).await?;
        match self.shared.store.delete_experiment(&view.record).await? {
            true => {
                self.shared.intervals.forget(id);
                Ok(())
            }
            false => Err(wrong_state(&view, Action::Delete)),
        }
    }

    async fn stop_experiment(
        &self,
        scope: &Scope,
        id: &str,
        action: Action,
        wish: Wish,
    ) -> Result<ExperimentView, RunnerError> {
        let view = self.experiment(scope, id).await?;
        if view.state.is_terminal() && !action.is_done(view.state) {
            return Err(wrong_state(&view, action));
        }
        let store = &self.shared.store;
        let events = store.subscribe(scope);
        let stopped = store.stop_experiment(&view.record, wish).await?;
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
        self.experiment(scope, id).await
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

    async fn view(&self, record: ExperimentRecord) -> Result<ExperimentView, RunnerError> {
        let jobs = self.shared.store.experiment_jobs(&record).await?;
        let runs: Vec<_> = jobs.iter().filter_map(Job::run).collect();
        let state = overall(runs.iter(), record.paused);
        let intervals = self.shared.intervals_of(&record, &jobs, &runs).await?;
        let workers = self.shared.config.devices.len() as u64;
        let goes_on = matches!(state, JobState::Queued | JobState::Running);
        Ok(ExperimentView {
            progress: ExperimentProgress::of(&record.spec, &runs),
            seconds_left: seconds_left(&record.spec, &runs, workers).filter(|_| goes_on),
            comparison: Comparison::of(&record.spec, &runs, &intervals),
            record,
            jobs,
            state,
        })
    }
}

fn wrong_state(view: &ExperimentView, action: Action) -> RunnerError {
    RunnerError::WrongExperimentState {
        id: view.record.id.clone(),
        state: view.state,
        action,
    }
}
