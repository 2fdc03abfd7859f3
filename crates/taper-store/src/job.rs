use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use taper_core::{JobError, JobSpec, JobState, Metrics, Plan, Project, Reason, RequestedAction};

use crate::{
    StoreError,
    ground::{from_json, from_word, metrics_from_json},
    scope::project_of,
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
    /// Its checkpoints and results on the disk; 0 unless read by [`crate::Store::job`] or [`crate::Store::jobs`].
    pub bytes: u64,
    /// 1 for the next one to run; only while queued, and only when read by [`crate::Store::job`] or [`crate::Store::jobs`].
    pub queue_position: Option<u64>,
    /// When it will start, about; only with a place in the queue, and only when the jobs before it tell how long they take.
    pub estimated_start: Option<i64>,
}

/// The place of a job in its experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Id of the experiment.
    pub experiment: String,
    /// Index of the configuration.
    pub configuration: usize,
}

/// A job as rows refer to it.
#[derive(Debug, Clone)]
pub(crate) struct JobKey {
    pub(crate) row: i64,
    pub(crate) id: String,
    pub(crate) project: Project,
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
            state: from_word(what, &text("state")?)?,
            attempt: row.try_get("attempt")?,
            crashes: row.try_get("crashes")?,
            priority: row.try_get("priority")?,
            requested: optional("wish")?
                .map(|action| from_word(what, &action))
                .transpose()?,
            spec: from_json(what, &text("spec")?)?,
            part: part(row)?,
            pause_at_step: row
                .try_get::<Option<i64>, _>("pause_at_step")?
                .map(|step| step as u64),
            reason: optional("reason")?
                .map(|reason| from_word(what, &reason))
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
