use std::time::Duration;

use crate::{Job, ObjectKey, Store, StoreError, ground::now, job, tuned_models::Span, writer::Tx};

impl Store {
    /// Jobs that ended longer ago than `age`, oldest first. The runs of an experiment are compared with each other, so that its first
    /// one stands for all, and only once all of them have ended as long ago.
    pub async fn ended_before(&self, age: Duration, limit: u32) -> Result<Vec<Job>, StoreError> {
        let jobs = sqlx::query(
            "select * from jobs where finished_at <= ?1 and state in ('succeeded', 'failed', 'cancelled')
             and not exists (
                select 1 from jobs as other where other.experiment_id = jobs.experiment_id
                and (other.row < jobs.row or coalesce(other.finished_at > ?1, true))
             )
             order by row limit ?2",
        )
        .bind(moment(age))
        .bind(limit)
        .fetch_all(&mut *self.reader().await?)
        .await?;
        jobs.iter().map(Job::read).collect()
    }

    /// Jobs that ended longer ago than `age` and still have checkpoints.
    pub async fn with_checkpoints_before(
        &self,
        age: Duration,
        limit: u32,
    ) -> Result<Vec<String>, StoreError> {
        let jobs = sqlx::query_scalar(
            "select distinct jobs.id from checkpoints join jobs on jobs.row = checkpoints.job
             where finished_at <= ? and state in ('succeeded', 'failed', 'cancelled') limit ?",
        )
        .bind(moment(age))
        .bind(limit)
        .fetch_all(&mut *self.reader().await?)
        .await?;
        Ok(jobs)
    }

    /// Deletes the checkpoints of a job that has ended: rows first, then folders; the next start removes what a crash leaves. False
    /// when there are none, or a job that has not ended starts from what this one has made.
    pub async fn delete_checkpoints(&self, job: &str) -> Result<bool, StoreError> {
        let id = job.to_owned();
        let gone = self.write(|tx| Box::pin(tx.delete_checkpoints(id))).await?;
        if gone.is_empty() {
            return Ok(false);
        }
        // Only those: a job that is tried again meanwhile may have new ones.
        let gone = gone.iter();
        let keys = gone.map(|folder| ObjectKey::checkpoint(job, folder));
        self.remove_unlisted(keys.collect()).await;
        Ok(true)
    }
}

fn moment(age: Duration) -> i64 {
    now().saturating_sub_unsigned(age.as_secs())
}

impl Tx {
    /// Deletes the rows, and tells the folders that have lost theirs.
    async fn delete_checkpoints(&mut self, id: String) -> Result<Vec<String>, StoreError> {
        let job = job::find(&mut self.connection, &id).await?;
        let Some(job) = job.filter(|job| job.state.is_terminal()) else {
            return Ok(Vec::new());
        };
        let model = job.tuned_model_name();
        match self.require_unused(&model, Span::Checkpoints).await {
            Err(StoreError::ModelInUse { .. }) => return Ok(Vec::new()),
            unused => unused?,
        }
        let gone = sqlx::query_scalar("delete from checkpoints where job = ? returning folder")
            .bind(job.row)
            .fetch_all(&mut self.connection)
            .await?;
        Ok(gone)
    }
}
