use sqlx::{QueryBuilder, Sqlite, SqliteConnection};
use taper_core::{JobSpec, Level, NewEvent, Project};

use crate::{
    Job, Once, Page, Part, Scope, Store, StoreError,
    ground::{new_id, now, to_json},
    job::find,
    queue::add_queue_positions,
    writer::Tx,
};

/// A job that is to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    pub spec: JobSpec,
    /// Whose it will be; the files and models that it names must be the same project's.
    pub project: Project,
    pub once: Option<Once>,
}

impl From<JobSpec> for NewJob {
    fn from(spec: JobSpec) -> Self {
        Self {
            spec,
            project: Project::default(),
            once: None,
        }
    }
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

impl Store {
    /// Puts a job in, in state `validating_files`, with its first event. A request that has made one before gets that one.
    ///
    /// # Errors
    /// [`StoreError::UnknownFile`] when a file it names has gone meanwhile; [`StoreError::KeyReused`]; [`StoreError::NoSpace`].
    pub async fn create_job(&self, job: impl Into<NewJob>) -> Result<Job, StoreError> {
        self.require_space()?;
        let new = job.into();
        self.write(|tx| Box::pin(tx.create_job(new))).await
    }

    /// Finds a job by its id.
    pub async fn job(&self, scope: &Scope, id: &str) -> Result<Option<Job>, StoreError> {
        let mut reader = self.reader().await?;
        let found = find(&mut reader, id).await?;
        let mut job = found.filter(|job| scope.holds(&job.project));
        add_queue_positions(&mut reader, job.as_mut_slice()).await?;
        add_sizes(&mut reader, job.as_mut_slice()).await?;
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
        add_queue_positions(&mut reader, &mut page.data).await?;
        add_sizes(&mut reader, &mut page.data).await?;
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

/// Fills in what the jobs have on the disk, as far as it is listed.
async fn add_sizes(connection: &mut SqliteConnection, jobs: &mut [Job]) -> Result<(), StoreError> {
    for job in jobs {
        let bytes: i64 = sqlx::query_scalar(
            "select (select coalesce(sum(bytes), 0) from checkpoints where job = ?1)
                  + (select coalesce(sum(bytes), 0) from artifacts where job = ?1)",
        )
        .bind(job.row)
        .fetch_one(&mut *connection)
        .await?;
        job.bytes = bytes as u64;
    }
    Ok(())
}

impl Tx {
    async fn create_job(&mut self, new: NewJob) -> Result<Job, StoreError> {
        let NewJob {
            spec,
            project,
            once,
        } = new;
        if let Some(id) = self.made_before(once.as_ref()).await?
            && let Some(job) = find(&mut self.connection, &id).await?
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
        .fetch_one(&mut self.connection)
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
