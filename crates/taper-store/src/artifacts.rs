use std::path::PathBuf;

use sqlx::{Row, sqlite::SqliteRow};

use crate::{Store, StoreError, events::JobKey, writer::Tx};

/// A file that a succeeded job has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Relative to the job's output, with `/`.
    pub path: String,
    pub bytes: u64,
    /// Hex.
    pub sha256: String,
}

impl Artifact {
    fn read(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            path: row.try_get("path")?,
            bytes: row.try_get::<i64, _>("bytes")? as u64,
            sha256: row.try_get("sha256")?,
        })
    }
}

impl Store {
    /// Lists a job's artifacts in the order of their paths.
    pub async fn artifacts(&self, job: &str) -> Result<Vec<Artifact>, StoreError> {
        let rows = sqlx::query(
            "select * from artifacts where job = (select row from jobs where id = ?) order by path",
        )
        .bind(job)
        .fetch_all(&mut *self.reader().await?)
        .await?;
        let artifacts: Result<_, _> = rows.iter().map(Artifact::read).collect();
        Ok(artifacts?)
    }

    /// Looks an artifact up by its path and tells where it lies.
    pub async fn artifact(
        &self,
        job: &str,
        path: &str,
    ) -> Result<Option<(Artifact, PathBuf)>, StoreError> {
        let row = sqlx::query(
            "select artifacts.*, jobs.id from artifacts join jobs on jobs.row = artifacts.job
             where jobs.id = ? and path = ?",
        )
        .bind(job)
        .bind(path)
        .fetch_optional(&mut *self.reader().await?)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let artifact = Artifact::read(&row)?;
        // Both parts come from the database, so no text of a client ever becomes a path.
        let output = self.run_dir(row.try_get("id")?).join("output");
        let lies = output.join(&artifact.path);
        Ok(Some((artifact, lies)))
    }
}

impl Tx<'_> {
    pub(crate) async fn add_artifacts(
        &mut self,
        job: &JobKey,
        artifacts: &[Artifact],
    ) -> Result<(), StoreError> {
        for artifact in artifacts {
            sqlx::query(
                "insert or replace into artifacts (job, path, bytes, sha256) values (?, ?, ?, ?)",
            )
            .bind(job.row)
            .bind(&artifact.path)
            .bind(artifact.bytes as i64)
            .bind(&artifact.sha256)
            .execute(&mut *self.connection)
            .await?;
        }
        Ok(())
    }
}
