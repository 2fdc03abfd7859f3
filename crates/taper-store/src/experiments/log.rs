//! The logs of an experiment's jobs as one.

use taper_core::Event;

use super::experiment::ExperimentRecord;
use crate::{Page, Store, StoreError, events};

/// The newest events of an experiment's jobs before a row. Each job's log is walked back from there by its index, and the newest of their
/// next events is always taken first: a page reads as many events as it shows, and one more for each job.
const PAGE: &str = "
    with recursive log (row, job, seq) as (
        select row, job, seq from events where row in (
            select (
                select row from events where job = jobs.row and +row < ?2 order by seq desc limit 1
            )
            from jobs where experiment_id = ?1
        )
        union all
        select older.row, older.job, older.seq
        from log cross join events as older on older.job = log.job and older.seq = log.seq - 1
        order by 1 desc
        limit ?3
    )
    select events.*, jobs.id as job_id, jobs.project
    from log cross join events on events.row = log.row join jobs on jobs.row = log.job
    order by log.row desc";

impl Store {
    /// Events of an experiment's jobs, newest first, older than the one with the row number `after`.
    ///
    /// # Errors
    /// [`StoreError::UnknownCursor`] when `after` is no event of one of its jobs.
    pub async fn experiment_events(
        &self,
        experiment: &ExperimentRecord,
        after: Option<i64>,
        limit: u32,
    ) -> Result<Page<Event>, StoreError> {
        let mut reader = self.reader().await?;
        if let Some(after) = after {
            let known: bool = sqlx::query_scalar(
                "select exists (select 1 from events join jobs on jobs.row = events.job
                 where events.row = ? and jobs.experiment_id = ?)",
            )
            .bind(after)
            .bind(&experiment.id)
            .fetch_one(&mut *reader)
            .await?;
            if !known {
                return Err(StoreError::UnknownCursor(after.to_string()));
            }
        }
        let rows = sqlx::query(PAGE)
            .bind(&experiment.id)
            .bind(after.unwrap_or(i64::MAX))
            .bind(i64::from(limit) + 1)
            .fetch_all(&mut *reader)
            .await?;
        let events: Result<_, _> = rows.iter().map(events::read).collect();
        Ok(Page::cut(events?, limit))
    }
}
