use serde_json::json;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use taper_core::{CheckpointFiles, Level, Metrics, NewEvent};

use crate::{
    Job, ObjectKey, Page, Store, StoreError,
    ground::{metrics_from_json, new_id, now, to_json},
    job::JobKey,
    writer::Tx,
};

/// A checkpoint that was kept whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    pub row: i64,
    /// `ftckpt-…`
    pub id: String,
    pub step: u64,
    pub metrics: Metrics,
    pub bytes: u64,
    /// Unix seconds.
    pub created_at: i64,
    /// The prefix of its files.
    pub key: ObjectKey,
}

impl Checkpoint {
    fn read(row: &SqliteRow, job: &str) -> Result<Self, StoreError> {
        let id: String = row.try_get("id")?;
        let metrics: String = row.try_get("metrics")?;
        Ok(Self {
            row: row.try_get("row")?,
            step: row.try_get::<i64, _>("step")? as u64,
            metrics: metrics_from_json(|| format!("checkpoint {id}"), &metrics)?,
            bytes: row.try_get::<i64, _>("bytes")? as u64,
            created_at: row.try_get("created_at")?,
            key: ObjectKey::checkpoint(job, row.try_get("folder")?),
            id,
        })
    }
}

impl Store {
    /// Makes a checkpoint known and forgets those it supersedes, rows first, then folders.
    ///
    /// # Errors
    /// [`StoreError::StaleAttempt`] when the job is not running under `attempt`.
    pub async fn publish_checkpoint(
        &self,
        job: &str,
        attempt: u32,
        files: CheckpointFiles,
    ) -> Result<Checkpoint, StoreError> {
        let name = files.dir.file_name().unwrap_or_default();
        let folder = name.to_string_lossy().into_owned();
        let key = ObjectKey::checkpoint(job, &folder);
        let kept = self.objects().put_folder(&key, &files.dir).await;
        let checkpoint = Checkpoint {
            row: 0,
            id: new_id("ftckpt"),
            step: files.step,
            metrics: files.metrics,
            bytes: kept.map_err(StoreError::io("cannot read a checkpoint"))?,
            created_at: now(),
            key,
        };
        let id = job.to_owned();
        let published = self.write(move |tx| {
            Box::pin(async move {
                let job = tx.running(&id, attempt).await?;
                tx.publish(&job, checkpoint, &files.superseded).await
            })
        });
        let (checkpoint, gone) = published.await?;
        // An error would make the engine delete the new checkpoint, which is known by now.
        self.remove_unlisted(gone).await;
        Ok(checkpoint)
    }

    /// Lists a job's checkpoints, highest step first, after the one with the id `after`.
    ///
    /// # Errors
    /// [`StoreError::UnknownCursor`] when `after` is no checkpoint of this job.
    pub async fn checkpoints(
        &self,
        job: &Job,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<Checkpoint>, StoreError> {
        let mut reader = self.reader().await?;
        let below = match after {
            None => i64::MAX,
            Some(id) => step_of(&mut reader, job, id).await?,
        };
        let rows = sqlx::query(
            "select * from checkpoints where job = ? and step < ? order by step desc limit ?",
        )
        .bind(job.row)
        .bind(below)
        .bind(i64::from(limit) + 1)
        .fetch_all(&mut *reader)
        .await?;
        let checkpoints: Result<_, _> = rows
            .iter()
            .map(|row| Checkpoint::read(row, &job.id))
            .collect();
        Ok(Page::cut(checkpoints?, limit))
    }

    /// Forgets checkpoints that cannot be used, says so in the job's log, and takes the job's curves back to the newest that is left.
    ///
    /// # Errors
    /// [`StoreError::StaleAttempt`] when the job is not running under `attempt`.
    pub async fn refuse_checkpoints(
        &self,
        job: &str,
        attempt: u32,
        refused: Vec<(Checkpoint, String)>,
    ) -> Result<(), StoreError> {
        let id = job.to_owned();
        self.write(move |tx| {
            Box::pin(async move {
                let job = tx.running(&id, attempt).await?;
                tx.refuse(&job, &refused).await
            })
        })
        .await
    }
}

async fn step_of(
    reader: &mut SqliteConnection,
    job: &Job,
    checkpoint: &str,
) -> Result<i64, StoreError> {
    let step = sqlx::query_scalar("select step from checkpoints where id = ? and job = ?")
        .bind(checkpoint)
        .bind(job.row)
        .fetch_optional(reader)
        .await?;
    step.ok_or_else(|| StoreError::UnknownCursor(checkpoint.to_owned()))
}

impl Tx {
    /// Publishes, and tells which checkpoints are no longer known.
    async fn publish(
        &mut self,
        job: &JobKey,
        mut checkpoint: Checkpoint,
        superseded: &[u64],
    ) -> Result<(Checkpoint, Vec<ObjectKey>), StoreError> {
        let mut gone = Vec::new();
        for step in superseded.iter().filter(|step| **step != checkpoint.step) {
            let folder: Option<String> = sqlx::query_scalar(
                "delete from checkpoints where job = ? and step = ? returning folder",
            )
            .bind(job.row)
            .bind(*step as i64)
            .fetch_optional(&mut self.connection)
            .await?;
            gone.extend(folder.map(|folder| ObjectKey::checkpoint(&job.id, &folder)));
        }
        checkpoint.row = sqlx::query_scalar(
            "insert or replace into checkpoints (id, job, step, folder, created_at, bytes, metrics)
             values (?, ?, ?, ?, ?, ?, ?) returning row",
        )
        .bind(&checkpoint.id)
        .bind(job.row)
        .bind(checkpoint.step as i64)
        .bind(checkpoint.key.name())
        .bind(checkpoint.created_at)
        .bind(checkpoint.bytes as i64)
        .bind(to_json(&checkpoint.metrics))
        .fetch_one(&mut self.connection)
        .await?;
        sqlx::query("update jobs set crashes = 0 where row = ?")
            .bind(job.row)
            .execute(&mut self.connection)
            .await?;
        let message = format!("Checkpoint created at step {}", checkpoint.step);
        let data = json!({"checkpoint": checkpoint.id, "step": checkpoint.step});
        let event = NewEvent {
            data: data.as_object().cloned(),
            ..NewEvent::message(Level::Info, message)
        };
        self.log(job, &[event]).await?;
        Ok((checkpoint, gone))
    }

    async fn refuse(
        &mut self,
        job: &JobKey,
        refused: &[(Checkpoint, String)],
    ) -> Result<(), StoreError> {
        let mut events = Vec::new();
        for (checkpoint, reason) in refused {
            sqlx::query("delete from checkpoints where row = ?")
                .bind(checkpoint.row)
                .execute(&mut self.connection)
                .await?;
            let step = checkpoint.step;
            let message = format!("The checkpoint of step {step} cannot be used: {reason}");
            events.push(NewEvent::message(Level::Warn, message));
        }
        self.log(job, &events).await?;
        self.rewind(job).await
    }

    pub(crate) async fn drop_checkpoints(&mut self, job: &JobKey) -> Result<(), StoreError> {
        sqlx::query("delete from checkpoints where job = ?")
            .bind(job.row)
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }

    /// Takes a job's curves and figures back to its last checkpoint, since what lies beyond will be recomputed.
    pub(crate) async fn rewind(&mut self, job: &JobKey) -> Result<(), StoreError> {
        let (step, place) = self.last_step(job.row).await?;
        self.cut_curves(job, step).await?;
        let mut metrics = self.last_figures(job).await?;
        metrics.merge(&place);
        self.set_metrics(job, &metrics).await
    }

    /// Step and figures of a job's last checkpoint.
    pub(crate) async fn last_step(&mut self, job: i64) -> Result<(u64, Metrics), StoreError> {
        let row = sqlx::query(
            "select step, metrics from checkpoints where job = ? order by step desc limit 1",
        )
        .bind(job)
        .fetch_optional(&mut self.connection)
        .await?;
        let Some(row) = row else {
            return Ok((0, Metrics::new()));
        };
        let metrics: String = row.try_get("metrics")?;
        let metrics = metrics_from_json(|| "a checkpoint".to_owned(), &metrics)?;
        Ok((row.try_get::<i64, _>("step")? as u64, metrics))
    }
}
