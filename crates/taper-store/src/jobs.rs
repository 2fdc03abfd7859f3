use std::collections::BTreeMap;

use serde::{Serialize, de::DeserializeOwned};
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection, sqlite::SqliteRow};
use taper_core::{
    JobError, JobSpec, JobState, Level, Metrics, NewEvent, Plan, Project, Reason, RequestedAction,
};

use crate::{
    NewJob, Page, Part, Scope, Store, StoreError,
    events::JobKey,
    queue::locate,
    retention::weigh,
    scope::project_of,
    store::{new_id, now},
    writer::{Command, Tx},
};

/// A job as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub row: i64,
    /// `ftjob-…`
    pub id: String,
    pub project: Project,
    /// Unix seconds, as all times here.
    pub created_at: i64,
    pub state: JobState,
    /// Starts so far.
    pub attempt: u32,
    /// Deaths of the server under this job since its last checkpoint.
    pub crashes: u32,
    /// Higher runs first.
    pub priority: i32,
    /// What a user has asked for and has not happened yet.
    pub requested: Option<RequestedAction>,
    pub spec: JobSpec,
    /// The place in its experiment, if it belongs to one.
    pub part: Option<Part>,
    /// The step at which it waits for the other runs of its experiment.
    pub pause_at_step: Option<u64>,
    /// Why its experiment has stopped it.
    pub reason: Option<Reason>,
    /// Known once the files are validated.
    pub plan: Option<Plan>,
    /// Last value of every figure.
    pub metrics: Metrics,
    pub error: Option<JobError>,
    /// When it first ran.
    pub started_at: Option<i64>,
    pub finished_at: Option<i64>,
    pub fine_tuned_model: Option<String>,
    pub trained_tokens: Option<u64>,
    /// Ids of files.
    pub result_files: Vec<String>,
    /// Its checkpoints and results on the disk; 0 unless read by [`Store::job`] or [`Store::jobs`].
    pub bytes: u64,
    /// 1 for the next one to run; only while queued, and only when read by [`Store::job`] or [`Store::jobs`].
    pub queue_position: Option<u64>,
    /// When it will start, about; only with a place in the queue, and only when the jobs before it tell how long they take.
    pub estimated_start: Option<i64>,
}

/// Which jobs to list.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// The id of the last job of the page before.
    pub after: Option<String>,
    pub limit: u32,
    pub metadata: MetadataFilter,
}

/// What a job's metadata must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataFilter {
    /// It must hold all these pairs.
    Pairs(Vec<(String, String)>),
    /// It must hold none at all.
    Empty,
}

impl Default for MetadataFilter {
    fn default() -> Self {
        Self::Pairs(Vec::new())
    }
}

impl Job {
    /// The name that its model has, or would have.
    pub fn tuned_model_name(&self) -> String {
        self.spec.tuned_model_name(&self.project, &self.id)
    }

    pub(crate) fn key(&self) -> JobKey {
        JobKey {
            row: self.row,
            id: self.id.clone(),
            project: self.project.clone(),
        }
    }

    pub(crate) fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        let id: String = row.try_get("id")?;
        let what = || format!("job {id}");
        let text = |column| row.try_get::<String, _>(column);
        let optional = |column| row.try_get::<Option<String>, _>(column);
        Ok(Self {
            row: row.try_get("row")?,
            project: project_of(row)?,
            created_at: row.try_get("created_at")?,
            state: from_json(what, &format!("\"{}\"", text("state")?))?,
            attempt: row.try_get("attempt")?,
            crashes: row.try_get("crashes")?,
            priority: row.try_get("priority")?,
            requested: optional("wish")?
                .map(|action| from_json(what, &format!("\"{action}\"")))
                .transpose()?,
            spec: from_json(what, &text("spec")?)?,
            part: part(row)?,
            pause_at_step: row
                .try_get::<Option<i64>, _>("pause_at_step")?
                .map(|step| step as u64),
            reason: optional("reason")?
                .map(|reason| from_json(what, &format!("\"{reason}\"")))
                .transpose()?,
            plan: optional("plan")?
                .map(|plan| from_json(what, &plan))
                .transpose()?,
            metrics: metrics_from_json(what, &text("metrics")?)?,
            error: optional("error")?
                .map(|error| from_json(what, &error))
                .transpose()?,
            started_at: row.try_get("started_at")?,
            finished_at: row.try_get("finished_at")?,
            fine_tuned_model: row.try_get("fine_tuned_model")?,
            trained_tokens: row
                .try_get::<Option<i64>, _>("trained_tokens")?
                .map(|tokens| tokens as u64),
            result_files: from_json(what, &text("result_files")?)?,
            bytes: 0,
            queue_position: None,
            estimated_start: None,
            id,
        })
    }
}

fn part(row: &SqliteRow) -> Result<Option<Part>, sqlx::Error> {
    let experiment: Option<String> = row.try_get("experiment_id")?;
    let configuration: Option<i64> = row.try_get("configuration")?;
    Ok(experiment
        .zip(configuration)
        .map(|(experiment, index)| Part {
            experiment,
            configuration: index as usize,
        }))
}

impl Store {
    /// Puts a job in, in state `validating_files`, with its first event. A request that has made one before gets that one.
    ///
    /// # Errors
    /// [`StoreError::UnknownFile`] when a file it names has gone meanwhile; [`StoreError::KeyReused`]; [`StoreError::NoSpace`].
    pub async fn create_job(&self, job: impl Into<NewJob>) -> Result<Job, StoreError> {
        self.require_space()?;
        let job = Box::new(job.into());
        self.write(|reply| Command::CreateJob(job, reply)).await
    }

    /// Finds a job by its id.
    pub async fn job(&self, scope: &Scope, id: &str) -> Result<Option<Job>, StoreError> {
        let mut reader = self.reader().await?;
        let found = find(&mut reader, id).await?;
        let mut job = found.filter(|job| scope.holds(&job.project));
        locate(&mut reader, job.as_mut_slice()).await?;
        weigh(&mut reader, job.as_mut_slice()).await?;
        Ok(job)
    }

    /// Lists jobs, newest first.
    ///
    /// # Errors
    /// [`StoreError::UnknownCursor`] when `after` names no job.
    pub async fn jobs(&self, scope: &Scope, filter: &JobFilter) -> Result<Page<Job>, StoreError> {
        let mut reader = self.reader().await?;
        let mut query = QueryBuilder::<Sqlite>::new("select * from jobs where true");
        scope.narrow(&mut query, "project");
        if let Some(after) = &filter.after {
            let found = find(&mut reader, after).await?;
            let last = found.filter(|job| scope.holds(&job.project));
            let row = last.map(|job| job.row);
            let row = row.ok_or_else(|| StoreError::UnknownCursor(after.clone()))?;
            query.push(" and row < ").push_bind(row);
        }
        match &filter.metadata {
            MetadataFilter::Empty => {
                query.push(" and not exists (select 1 from json_each(spec, '$.metadata'))");
            }
            MetadataFilter::Pairs(pairs) => {
                for (key, value) in pairs {
                    query.push(
                        " and exists (select 1 from json_each(spec, '$.metadata') where key = ",
                    );
                    query.push_bind(key.clone()).push(" and value = ");
                    query.push_bind(value.clone()).push(")");
                }
            }
        }
        query
            .push(" order by row desc limit ")
            .push_bind(i64::from(filter.limit) + 1);
        let rows = query.build().fetch_all(&mut *reader).await?;
        let jobs: Result<_, _> = rows.iter().map(Job::read).collect();
        let mut page = Page::cut(jobs?, filter.limit);
        locate(&mut reader, &mut page.data).await?;
        weigh(&mut reader, &mut page.data).await?;
        Ok(page)
    }

    /// All jobs whose files are yet to be validated, oldest first.
    pub async fn unvalidated_jobs(&self) -> Result<Vec<String>, StoreError> {
        let ids =
            sqlx::query_scalar("select id from jobs where state = 'validating_files' order by row")
                .fetch_all(&mut *self.reader().await?)
                .await?;
        Ok(ids)
    }
}

pub(crate) async fn find(
    connection: &mut SqliteConnection,
    id: &str,
) -> Result<Option<Job>, StoreError> {
    let row = sqlx::query("select * from jobs where id = ?")
        .bind(id)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(Job::read).transpose()
}

impl Tx<'_> {
    pub(crate) async fn create_job(&mut self, new: NewJob) -> Result<Job, StoreError> {
        let NewJob {
            spec,
            project,
            once,
        } = new;
        if let Some(id) = self.made_before(once.as_ref()).await?
            && let Some(job) = find(self.connection, &id).await?
        {
            return Ok(job);
        }
        let job = self.add_job(&project, spec, None).await?;
        self.remember(once.as_ref(), &job.id).await?;
        Ok(job)
    }

    /// Puts a job in, alone or as a part of an experiment.
    pub(crate) async fn add_job(
        &mut self,
        project: &Project,
        spec: JobSpec,
        part: Option<Part>,
    ) -> Result<Job, StoreError> {
        self.require_files(project, &spec).await?;
        let id = new_id("ftjob");
        let (experiment, configuration) = part
            .map(|part| (part.experiment, part.configuration as i64))
            .unzip();
        let row = sqlx::query(
            "insert into jobs (id, project, created_at, state, spec, experiment_id, configuration)
             values (?, ?, ?, 'validating_files', ?, ?, ?) returning *",
        )
        .bind(&id)
        .bind(project.as_str())
        .bind(now())
        .bind(to_json(&spec))
        .bind(experiment)
        .bind(configuration)
        .fetch_one(&mut *self.connection)
        .await?;
        let job = Job::read(&row)?;
        let created = format!("Created fine-tuning job: {id}");
        let mut events = vec![NewEvent::state(job.state, 0, Level::Info, created)];
        events.extend(job.spec.ignored.iter().map(|name| {
            let message = format!("'{name}' is accepted but not acted on");
            NewEvent::message(Level::Warn, message)
        }));
        self.log(&job.key(), &events).await?;
        Ok(job)
    }
}

pub(crate) fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("keys are strings, so it serializes")
}

pub(crate) fn from_json<T: DeserializeOwned>(
    what: impl Fn() -> String,
    text: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|source| StoreError::Unreadable {
        what: what(),
        source,
    })
}

pub(crate) fn metrics_to_json(metrics: &Metrics) -> String {
    to_json(metrics)
}

/// Reads figures back; JSON has no word for a non-finite one, so it was written as `null`.
pub(crate) fn metrics_from_json(
    what: impl Fn() -> String,
    text: &str,
) -> Result<Metrics, StoreError> {
    let figures: BTreeMap<String, Option<f64>> = from_json(what, text)?;
    let mut metrics = Metrics::new();
    for (name, value) in figures {
        metrics.set(&name, value.unwrap_or(f64::NAN));
    }
    Ok(metrics)
}
