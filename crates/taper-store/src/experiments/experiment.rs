use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection, sqlite::SqliteRow};
use taper_core::{Experiment, JobSpec, Project, Run};

use crate::{
    Job, Once, Page, Part, Scope, Store, StoreError,
    ground::{from_json, new_id, now, to_json},
    scope::project_of,
    writer::Tx,
};

/// An experiment as it was made.
#[derive(Debug, Clone, PartialEq)]
pub struct ExperimentRecord {
    pub row: i64,
    /// `exp-…`
    pub id: String,
    pub project: Project,
    /// Unix seconds.
    pub created_at: i64,
    /// A user has paused it as a whole.
    pub paused: bool,
    pub spec: Experiment,
}

/// An experiment that is to be made, with its jobs.
#[derive(Debug, Clone)]
pub struct NewExperiment {
    pub spec: Experiment,
    pub project: Project,
    /// The index of the configuration and the specification, in the order in which they run.
    pub jobs: Vec<(usize, JobSpec)>,
    pub once: Option<Once>,
}

impl ExperimentRecord {
    fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        let id: String = row.try_get("id")?;
        let spec: String = row.try_get("spec")?;
        Ok(Self {
            row: row.try_get("row")?,
            project: project_of(row)?,
            created_at: row.try_get("created_at")?,
            paused: row.try_get("paused")?,
            spec: from_json(|| format!("experiment {id}"), &spec)?,
            id,
        })
    }
}

impl Job {
    /// The job as its experiment's comparison looks at it; `None` when it belongs to none.
    pub fn run(&self) -> Option<Run> {
        let part = self.part.as_ref()?;
        Some(Run {
            job: self.id.clone(),
            configuration: part.configuration,
            seed: self.spec.training.seed,
            state: self.state,
            reason: self.reason,
            error: self.error.clone(),
            metrics: self.metrics.clone(),
            plan: self.plan.clone(),
            pause_at_step: self.pause_at_step,
            has_started: self.started_at.is_some(),
        })
    }
}

impl Store {
    /// Puts an experiment in with all its jobs, each in state `validating_files`. A request that has made one before gets that one.
    ///
    /// # Errors
    /// [`StoreError::UnknownFile`] when a file it names has gone meanwhile; [`StoreError::KeyReused`]; [`StoreError::NoSpace`].
    pub async fn create_experiment(
        &self,
        new: NewExperiment,
    ) -> Result<ExperimentRecord, StoreError> {
        self.require_space()?;
        self.write(|tx| Box::pin(tx.create_experiment(new))).await
    }

    /// Finds an experiment by its id.
    pub async fn experiment(
        &self,
        scope: &Scope,
        id: &str,
    ) -> Result<Option<ExperimentRecord>, StoreError> {
        let found = find(&mut *self.reader().await?, id).await?;
        Ok(found.filter(|experiment| scope.holds(&experiment.project)))
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
    ) -> Result<Page<ExperimentRecord>, StoreError> {
        let mut reader = self.reader().await?;
        let before = match after {
            Some(after) => {
                let last = find(&mut reader, after).await?;
                let last = last.filter(|last| scope.holds(&last.project));
                last.ok_or_else(|| StoreError::UnknownCursor(after.to_owned()))?
                    .row
            }
            None => i64::MAX,
        };
        let mut query = QueryBuilder::<Sqlite>::new("select * from experiments where row < ");
        query.push_bind(before);
        scope.narrow(&mut query, "project");
        query
            .push(" order by row desc limit ")
            .push_bind(i64::from(limit) + 1);
        let rows = query.build().fetch_all(&mut *reader).await?;
        let experiments: Result<_, _> = rows.iter().map(ExperimentRecord::read).collect();
        Ok(Page::cut(experiments?, limit))
    }

    /// The jobs of an experiment, in the order of their configurations and seeds.
    pub async fn experiment_jobs(
        &self,
        experiment: &ExperimentRecord,
    ) -> Result<Vec<Job>, StoreError> {
        jobs_of(&mut *self.reader().await?, &experiment.id).await
    }
}

pub(super) async fn find(
    connection: &mut SqliteConnection,
    id: &str,
) -> Result<Option<ExperimentRecord>, StoreError> {
    let row = sqlx::query("select * from experiments where id = ?")
        .bind(id)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(ExperimentRecord::read).transpose()
}

pub(super) async fn jobs_of(
    connection: &mut SqliteConnection,
    id: &str,
) -> Result<Vec<Job>, StoreError> {
    let rows = sqlx::query("select * from jobs where experiment_id = ? order by row")
        .bind(id)
        .fetch_all(connection)
        .await?;
    rows.iter().map(Job::read).collect()
}

impl Tx {
    async fn create_experiment(
        &mut self,
        new: NewExperiment,
    ) -> Result<ExperimentRecord, StoreError> {
        let NewExperiment {
            spec,
            project,
            jobs,
            once,
        } = new;
        if let Some(id) = self.made_before(once.as_ref()).await?
            && let Some(experiment) = find(&mut self.connection, &id).await?
        {
            return Ok(experiment);
        }
        let row = sqlx::query(
            "insert into experiments (id, project, created_at, spec) values (?, ?, ?, ?) returning *",
        )
        .bind(new_id("exp"))
        .bind(project.as_str())
        .bind(now())
        .bind(to_json(&spec))
        .fetch_one(&mut self.connection)
        .await?;
        let experiment = ExperimentRecord::read(&row)?;
        for (configuration, spec) in jobs {
            let part = Part {
                experiment: experiment.id.clone(),
                configuration,
            };
            self.add_job(&project, spec, Some(part)).await?;
        }
        self.remember(once.as_ref(), &experiment.id).await?;
        Ok(experiment)
    }
}
