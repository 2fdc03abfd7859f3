use taper_core::{
    JobError, JobSpec, JobState, Level, Metrics, NewEvent, Plan, Reason, RequestedAction,
};

use crate::{
    Artifact, FileRecord, Job, Store, StoreError,
    ground::{now, to_json},
    job,
    tuned_models::Span,
    writer::Tx,
};

/// A change of a job's state, with what must hold for it to happen.
#[derive(Debug, Clone)]
pub struct Transition {
    pub job: String,
    /// States from which it may happen.
    pub from: &'static [JobState],
    /// The attempt that must be the job's current one.
    pub attempt: Option<u32>,
    pub to: JobState,
    /// How the event of the new state reads.
    pub level: Level,
    pub message: String,
    pub change: Change,
}

/// What a transition changes besides the state.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Events that led to the new state; they stand before its own.
    pub events: Vec<NewEvent>,
    pub plan: Option<Plan>,
    /// The specification that the plan is of, where a budget has changed it.
    pub spec: Option<JobSpec>,
    /// The step at which the job is to wait for the other runs of its experiment.
    pub pause_at_step: Option<u64>,
    /// Why its experiment stops it.
    pub reason: Option<Reason>,
    pub error: Option<JobError>,
    pub result: Option<JobResult>,
    /// Forgets all checkpoints, since none of them can be used.
    pub drop_checkpoints: bool,
}

/// What a job leaves that has succeeded.
#[derive(Debug, Clone, Default)]
pub struct JobResult {
    pub fine_tuned_model: String,
    pub trained_tokens: u64,
    pub metrics: Metrics,
    pub artifacts: Vec<Artifact>,
    /// Files that become known with the end of the job.
    pub result_files: Vec<FileRecord>,
}

impl Transition {
    /// What a user's request makes of the transition; `None` = nothing else.
    fn redirected(&self, requested: Option<RequestedAction>) -> Option<Self> {
        let to = requested?.redirect(self.to)?;
        let mut redirected = Self {
            to,
            level: Level::Info,
            message: format!("The job was {to}"),
            ..self.clone()
        };
        if to == JobState::Cancelled {
            redirected.change = Change {
                // Their folders have gone.
                drop_checkpoints: self.change.drop_checkpoints,
                ..Change::default()
            };
        }
        Some(redirected)
    }
}

impl Store {
    /// Changes a job's state if all that the transition asks for holds; `None` = it did not happen. A user's request that waits for the
    /// job to leave its worker is followed instead; result files that a cancel has overtaken go.
    ///
    /// # Errors
    /// When an ended job would begin again: [`StoreError::UnknownFile`] when a file it names has gone, [`StoreError::ModelInUse`] when
    /// an open job starts from what it has made.
    pub async fn transition(&self, transition: Transition) -> Result<Option<Job>, StoreError> {
        let result = transition.change.result.iter();
        let files = result.flat_map(|result| &result.result_files);
        let files: Vec<_> = files.map(|file| file.id.clone()).collect();
        let settled = self
            .write(|tx| Box::pin(async move { tx.transition(&transition).await }))
            .await?;
        if settled
            .as_ref()
            .is_some_and(|job| job.state == JobState::Cancelled)
        {
            self.remove_files(&files).await;
        }
        Ok(settled)
    }
}

impl Tx {
    pub(crate) async fn transition(&mut self, it: &Transition) -> Result<Option<Job>, StoreError> {
        debug_assert!(it.from.iter().all(|from| from.can_become(it.to)));
        let Some(job) = job::find(&mut self.connection, &it.job).await? else {
            return Ok(None);
        };
        let current = it.attempt.is_none_or(|attempt| attempt == job.attempt);
        if !current || !it.from.contains(&job.state) {
            return Ok(None);
        }
        if job.state.is_terminal() {
            self.require_files(&job.project, &job.spec).await?;
            // An open job may start from a checkpoint that would be superseded.
            let model = job.tuned_model_name();
            self.require_unused(&model, Span::Checkpoints).await?;
        }
        let redirected = it.redirected(job.requested);
        let it = redirected.as_ref().unwrap_or(it);
        let attempt = job.attempt + u32::from(it.to == JobState::Running);
        if !self.update_state(&job, it, attempt).await? {
            return Ok(None);
        }
        let key = job.key();
        if it.change.drop_checkpoints {
            self.drop_checkpoints(&key).await?;
        }
        if matches!(it.to, JobState::Queued | JobState::Paused) && attempt > 0 {
            self.rewind(&key).await?;
        }
        self.log(&key, &it.change.events).await?;
        if let Some(result) = &it.change.result {
            self.keep_result(&job, result).await?;
        }
        let event = NewEvent::state(it.to, attempt, it.level, it.message.clone());
        self.log(&key, &[event]).await?;
        job::find(&mut self.connection, &it.job).await
    }

    /// The guarded update; false = the job has moved on.
    async fn update_state(
        &mut self,
        job: &Job,
        it: &Transition,
        attempt: u32,
    ) -> Result<bool, StoreError> {
        let now = now();
        let updated = sqlx::query(
            "update jobs set state = ?, attempt = ?, plan = coalesce(?, plan), spec = coalesce(?, spec),
                pause_at_step = coalesce(?, pause_at_step), reason = ?, error = ?, wish = null,
                crashes = iif(?, 0, crashes), started_at = coalesce(started_at, ?), finished_at = ?
             where id = ? and state = ? and attempt = ?",
        )
        .bind(it.to.as_str())
        .bind(attempt)
        .bind(it.change.plan.as_ref().map(to_json))
        .bind(it.change.spec.as_ref().map(to_json))
        .bind(it.change.pause_at_step.map(|step| step as i64))
        // Who has paused a run that comes to its rung wants to let it go on himself.
        .bind(it.change.reason.filter(|_| job.requested.is_none()).map(Reason::as_str))
        .bind(it.change.error.as_ref().map(to_json))
        // A user who wants it tried again has done something about it.
        .bind(job.state.is_terminal())
        .bind((it.to == JobState::Running).then_some(now))
        .bind(it.to.is_terminal().then_some(now))
        .bind(&job.id)
        .bind(job.state.as_str())
        .bind(job.attempt)
        .execute(&mut self.connection)
        .await?;
        Ok(updated.rows_affected() == 1)
    }

    async fn keep_result(&mut self, job: &Job, result: &JobResult) -> Result<(), StoreError> {
        let mut files = Vec::new();
        for file in &result.result_files {
            files.push(self.add_file(file.clone(), None).await?.id);
        }
        sqlx::query(
            "update jobs set fine_tuned_model = ?, trained_tokens = ?, result_files = ? where row = ?",
        )
        .bind(&result.fine_tuned_model)
        .bind(result.trained_tokens as i64)
        .bind(to_json(&files))
        .bind(job.row)
        .execute(&mut self.connection)
        .await?;
        self.merge_metrics(&job.key(), &result.metrics).await?;
        self.add_artifacts(&job.key(), &result.artifacts).await
    }
}
