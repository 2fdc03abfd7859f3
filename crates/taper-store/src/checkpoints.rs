use std::{fs, io, path::PathBuf};

use serde_json::json;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use taper_core::{CheckpointFiles, Level, Metrics, NewEvent};

use crate::{
    Job, Page, Store, StoreError,
    events::JobKey,
    jobs::{metrics_from_json, metrics_to_json},
    layout::Layout,
    store::{blocking, new_id, now},
    writer::{Command, Tx},
};

/// A checkpoint that lies whole on the disk.
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
    pub dir: PathBuf,
}

/// A checkpoint that asks to become known.
pub(crate) struct Publication {
    job: String,
    attempt: u32,
    superseded: Vec<u64>,
    folder: String,
    checkpoint: Checkpoint,
}

/// Checkpoints that a run cannot go on from, with what is wrong with each.
pub(crate) struct Refusal {
    job: String,
    attempt: u32,
    refused: Vec<(Checkpoint, String)>,
}

impl Checkpoint {
    fn read(row: &SqliteRow, layout: &Layout, job: &str) -> Result<Self, StoreError> {
        let id: String = row.try_get("id")?;
        let metrics: String = row.try_get("metrics")?;
        Ok(Self {
            row: row.try_get("row")?,
            step: row.try_get::<i64, _>("step")? as u64,
            metrics: metrics_from_json(|| format!("checkpoint {id}"), &metrics)?,
            bytes: row.try_get::<i64, _>("bytes")? as u64,
            created_at: row.try_get("created_at")?,
            dir: layout.checkpoint(job, &row.try_get::<String, _>("folder")?),
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
        let dir = self.layout().checkpoint(job, &folder);
        let measured = dir.clone();
        let bytes = blocking("cannot read a checkpoint", move || bytes_under(&measured)).await?;
        let publication = Publication {
            job: job.to_owned(),
            attempt,
            superseded: files.superseded,
            folder,
            checkpoint: Checkpoint {
                row: 0,
                id: new_id("ftckpt"),
                step: files.step,
                metrics: files.metrics,
                bytes,
                created_at: now(),
                dir,
            },
        };
        let (checkpoint, gone) = self
            .write(|reply| Command::PublishCheckpoint(publication, reply))
            .await?;
        let gone = gone
            .iter()
            .map(|folder| self.layout().checkpoint(job, folder));
        // An error would make the engine delete the new checkpoint, which is known by now.
        self.remove_unlisted(gone.collect()).await;
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
            .map(|row| Checkpoint::read(row, self.layout(), &job.id))
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
        let refusal = Refusal {
            job: job.to_owned(),
            attempt,
            refused,
        };
        self.write(|reply| Command::RefuseCheckpoints(refusal, reply))
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

fn bytes_under(dir: &PathBuf) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() {
            bytes_under(&entry.path())?
        } else {
            entry.metadata()?.len()
        };
    }
    Ok(bytes)
}

impl Tx<'_> {
    /// Publishes and returns the folders that are no longer known.
    pub(crate) async fn publish(
        &mut self,
        publication: Publication,
    ) -> Result<(Checkpoint, Vec<String>), StoreError> {
        let Publication {
            job,
            attempt,
            superseded,
            folder,
            mut checkpoint,
        } = publication;
        let job = self.running(&job, attempt).await?;
        let mut gone = Vec::new();
        for step in superseded.iter().filter(|step| **step != checkpoint.step) {
            let folder: Option<String> = sqlx::query_scalar(
                "delete from checkpoints where job = ? and step = ? returning folder",
            )
            .bind(job.row)
            .bind(*step as i64)
            .fetch_optional(&mut *self.connection)
            .await?;
            gone.extend(folder);
        }
        checkpoint.row = sqlx::query_scalar(
            "insert or replace into checkpoints (id, job, step, folder, created_at, bytes, metrics)
             values (?, ?, ?, ?, ?, ?, ?) returning row",
        )
        .bind(&checkpoint.id)
        .bind(job.row)
        .bind(checkpoint.step as i64)
        .bind(&folder)
        .bind(checkpoint.created_at)
        .bind(checkpoint.bytes as i64)
        .bind(metrics_to_json(&checkpoint.metrics))
        .fetch_one(&mut *self.connection)
        .await?;
        sqlx::query("update jobs set crashes = 0 where row = ?")
            .bind(job.row)
            .execute(&mut *self.connection)
            .await?;
        let message = format!("Checkpoint created at step {}", checkpoint.step);
        let data = json!({"checkpoint": checkpoint.id, "step": checkpoint.step});
        let event = NewEvent {
            data: data.as_object().cloned(),
            ..NewEvent::message(Level::Info, message)
        };
        self.log(&job, &[event]).await?;
        Ok((checkpoint, gone))
    }

    pub(crate) async fn refuse(&mut self, it: &Refusal) -> Result<(), StoreError> {
        let key = self.running(&it.job, it.attempt).await?;
        let mut events = Vec::new();
        for (checkpoint, reason) in &it.refused {
            sqlx::query("delete from checkpoints where row = ?")
                .bind(checkpoint.row)
                .execute(&mut *self.connection)
                .await?;
            let step = checkpoint.step;
            let message = format!("The checkpoint of step {step} cannot be used: {reason}");
            events.push(NewEvent::message(Level::Warn, message));
        }
        self.log(&key, &events).await?;
        self.rewind(&key).await
    }

    pub(crate) async fn drop_checkpoints(&mut self, job: &JobKey) -> Result<(), StoreError> {
        sqlx::query("delete from checkpoints where job = ?")
            .bind(job.row)
            .execute(&mut *self.connection)
            .await?;
        Ok(())
    }

    /// Takes a job's curves and figures back to its last checkpoint, since what lies beyond will be made again.
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
        .fetch_optional(&mut *self.connection)
        .await?;
        let Some(row) = row else {
            return Ok((0, Metrics::new()));
        };
        let metrics: String = row.try_get("metrics")?;
        let metrics = metrics_from_json(|| "a checkpoint".to_owned(), &metrics)?;
        Ok((row.try_get::<i64, _>("step")? as u64, metrics))
    }
}
