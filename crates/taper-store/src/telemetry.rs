use std::sync::atomic::Ordering::Relaxed;

use sqlx::{Row, SqliteConnection};
use taper_core::{JobState, Metrics};

use crate::{
    Scope, Store, StoreError,
    ground::{metrics_from_json, now},
};

/// How the store is doing.
#[derive(Debug, Clone, PartialEq)]
pub struct Telemetry {
    /// Jobs in each state that is no end.
    pub open: Vec<(JobState, u64)>,
    /// Jobs that have come to each end since the store was opened.
    pub ended: [(JobState, u64); 3],
    /// Seconds since the job that has been queued longest was created; 0 when none is.
    pub oldest_queued_seconds: u64,
    /// The figures of each running job, by its id.
    pub running: Vec<(String, Metrics)>,
    pub commits: u64,
    pub failed_commits: u64,
    /// All commits together.
    pub commit_seconds: f64,
    pub database_bytes: u64,
    /// The write-ahead log, part of the former.
    pub log_bytes: u64,
    /// Left on the disk of the data directory.
    pub free_bytes: u64,
    /// Uploads, checkpoints, results and database.
    pub used_bytes: u64,
    /// Readers of live events.
    pub subscribers: u64,
}

impl Store {
    /// Measures how the store is doing. Only jobs of the scope are told by themselves.
    pub async fn telemetry(&self, scope: &Scope) -> Result<Telemetry, StoreError> {
        let space = self.space().await?;
        let mut reader = self.reader().await?;
        let counters = &self.inner().counters;
        Ok(Telemetry {
            open: count_open(&mut reader).await?,
            ended: [
                (JobState::Succeeded, counters.succeeded.load(Relaxed)),
                (JobState::Failed, counters.failed.load(Relaxed)),
                (JobState::Cancelled, counters.cancelled.load(Relaxed)),
            ],
            oldest_queued_seconds: oldest_queued(&mut reader).await?,
            running: running(&mut reader, scope).await?,
            commits: counters.commits.load(Relaxed),
            failed_commits: counters.failed_commits.load(Relaxed),
            commit_seconds: counters.commit_micros.load(Relaxed) as f64 / 1e6,
            database_bytes: self.data_dir().database_bytes(),
            log_bytes: self.data_dir().log_bytes(),
            free_bytes: space.free,
            used_bytes: space.used,
            subscribers: self.inner().events.receiver_count() as u64,
        })
    }
}

async fn count_open(reader: &mut SqliteConnection) -> Result<Vec<(JobState, u64)>, StoreError> {
    let mut counts = Vec::new();
    for state in JobState::ALL.into_iter().filter(|it| !it.is_terminal()) {
        // The condition is written out so that the index of open jobs serves.
        let count: i64 = sqlx::query_scalar(
            "select count(*) from jobs where state = ?
             and state in ('validating_files', 'queued', 'running', 'paused')",
        )
        .bind(state.as_str())
        .fetch_one(&mut *reader)
        .await?;
        counts.push((state, count as u64));
    }
    Ok(counts)
}

async fn oldest_queued(reader: &mut SqliteConnection) -> Result<u64, StoreError> {
    let created: Option<i64> = sqlx::query_scalar(
        "select created_at from jobs where state = 'queued'
         and state in ('validating_files', 'queued', 'running', 'paused') order by row limit 1",
    )
    .fetch_optional(reader)
    .await?;
    Ok(created.map_or(0, |created| now().saturating_sub(created).max(0) as u64))
}

async fn running(
    reader: &mut SqliteConnection,
    scope: &Scope,
) -> Result<Vec<(String, Metrics)>, StoreError> {
    let rows = sqlx::query(
        "select id, metrics from jobs where state = 'running'
         and state in ('validating_files', 'queued', 'running', 'paused')
         and (?1 is null or project = ?1) order by row",
    )
    .bind(scope.project())
    .fetch_all(reader)
    .await?;
    rows.iter()
        .map(|row| {
            let id: String = row.try_get("id")?;
            let metrics = metrics_from_json(|| format!("job {id}"), row.try_get("metrics")?)?;
            Ok((id, metrics))
        })
        .collect()
}
