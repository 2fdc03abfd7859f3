use taper_core::{
    ErrorCode, JobError, JobSpec, JobState, Level, Metrics, NewEvent, Plan, Reason, RequestedAction,
};

use crate::{
    Artifact, FileRecord, Job, Store, StoreError, jobs,
    jobs::to_json,
    store::now,
    tuned::Span,
    writer::{Command, Tx},
};

/// Deaths of the server in a row after which a job is no longer tried.
const MOST_CRASHES: u32 = 3;

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
    fn heeding(&self, requested: Option<RequestedAction>) -> Option<Self> {
        let to = requested?.redirect(self.to)?;
        let mut heeding = Self {
            to,
            level: Level::Info,
            message: format!("The job was {to}"),
            ..self.clone()
        };
        if to == JobState::Cancelled {
            heeding.change = Change {
                // Their folders have gone.
                drop_checkpoints: self.change.drop_checkpoints,
                ..Change::default()
            };
        }
        Some(heeding)
    }
}

/// What became of the jobs under which the last server ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    pub queued: Vec<String>,
    pub failed: Vec<String>,
    /// Under an executor that outlives the server.
    pub running: Vec<String>,
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
        let laid_by = result.flat_map(|result| &result.result_files);
        let laid_by: Vec<_> = laid_by.map(|file| file.id.clone()).collect();
        let settled = self
            .write(|reply| Command::Transition(Box::new(transition), reply))
            .await?;
        if settled
            .as_ref()
            .is_some_and(|job| job.state == JobState::Cancelled)
        {
            self.remove_files(&laid_by).await;
        }
        Ok(settled)
    }

    /// Puts the jobs that were running when the last server ended back into the queue, or lets them fail after three crashes.
    pub async fn recover(&self) -> Result<Recovered, StoreError> {
        self.recover_unseen(Vec::new()).await
    }

    /// As [`Store::recover`], but jobs of which the current attempt was seen running are left alone.
    pub async fn recover_unseen(&self, seen: Vec<(String, u32)>) -> Result<Recovered, StoreError> {
        self.write(|reply| Command::Recover(seen, reply)).await
    }
}

impl Tx<'_> {
    pub(crate) async fn transition(&mut self, it: &Transition) -> Result<Option<Job>, StoreError> {
        debug_assert!(it.from.iter().all(|from| from.can_become(it.to)));
        let Some(job) = jobs::find(self.connection, &it.job).await? else {
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
        let heeding = it.heeding(job.requested);
        let it = heeding.as_ref().unwrap_or(it);
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
        jobs::find(self.connection, &it.job).await
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
        .execute(&mut *self.connection)
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
        .execute(&mut *self.connection)
        .await?;
        self.merge_metrics(&job.key(), &result.metrics).await?;
        self.add_artifacts(&job.key(), &result.artifacts).await
    }

    pub(crate) async fn recover(
        &mut self,
        seen: &[(String, u32)],
    ) -> Result<Recovered, StoreError> {
        let running: Vec<(String, u32)> =
            sqlx::query_as("select id, attempt from jobs where state = 'running' order by row")
                .fetch_all(&mut *self.connection)
                .await?;
        let mut recovered = Recovered::default();
        for attempt in running {
            if seen.contains(&attempt) {
                recovered.running.push(attempt.0);
                continue;
            }
            let (id, _) = attempt;
            let crashes: u32 = sqlx::query_scalar(
                "update jobs set crashes = crashes + 1 where id = ? returning crashes",
            )
            .bind(&id)
            .fetch_one(&mut *self.connection)
            .await?;
            let transition = if crashes >= MOST_CRASHES {
                recovered.failed.push(id.clone());
                crashed(id, crashes)
            } else {
                recovered.queued.push(id.clone());
                self.requeued(id).await?
            };
            self.transition(&transition).await?;
        }
        Ok(recovered)
    }

    async fn requeued(&mut self, job: String) -> Result<Transition, StoreError> {
        let row = sqlx::query_scalar("select row from jobs where id = ?")
            .bind(&job)
            .fetch_one(&mut *self.connection)
            .await?;
        let from = match self.last_step(row).await? {
            (0, _) => "the start".to_owned(),
            (step, _) => format!("step {step}"),
        };
        Ok(Transition {
            job,
            from: &[JobState::Running],
            attempt: None,
            to: JobState::Queued,
            level: Level::Warn,
            message: format!(
                "The server ended while this job was running; it will go on from {from}"
            ),
            change: Change::default(),
        })
    }
}

fn crashed(job: String, crashes: u32) -> Transition {
    let message = format!(
        "The server ended {crashes} times in a row under this job without a new checkpoint; it is no longer tried"
    );
    Transition {
        job,
        from: &[JobState::Running],
        attempt: None,
        to: JobState::Failed,
        level: Level::Error,
        message: message.clone(),
        change: Change {
            error: Some(JobError::new(ErrorCode::Crashed, message)),
            ..Change::default()
        },
    }
}
