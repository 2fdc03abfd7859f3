use serde::{Deserialize, Serialize};
use taper_core::{JobSpec, JobState, Metrics, Plan};

use crate::{Page, Store, StoreError};

/// A job as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub row: i64,
    /// `ftjob-…`
    pub id: String,
    /// Unix seconds, as all times here.
    pub created_at: i64,
    pub state: JobState,
    /// Starts so far.
    pub attempt: u32,
    /// Deaths of the server under this job since its last checkpoint.
    pub crashes: u32,
    /// Higher runs first.
    pub priority: i32,
    pub spec: JobSpec,
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
    /// 1 for the next one to run; only while queued.
    pub queue_position: Option<u64>,
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
    pub param: Option<String>,
    /// The optimizer step at which it happened.
    pub step: Option<u64>,
}

/// Which jobs to list.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// The id of the last job of the page before.
    pub after: Option<String>,
    pub limit: u32,
    /// Pairs that a job's metadata must all hold.
    pub metadata: Vec<(String, String)>,
}

impl Store {
    /// Puts a job in, in state `validating_files`, with its first event.
    ///
    /// # Errors
    /// [`StoreError::UnknownFile`] when a file it names has gone meanwhile.
    pub async fn create_job(&self, spec: JobSpec) -> Result<Job, StoreError> {
        unimplemented!("{spec:?}")
    }

    /// Finds a job by its id.
    pub async fn job(&self, id: &str) -> Result<Option<Job>, StoreError> {
        unimplemented!("{id}")
    }

    /// Lists jobs, newest first.
    pub async fn jobs(&self, filter: &JobFilter) -> Result<Page<Job>, StoreError> {
        unimplemented!("{filter:?}")
    }
}
