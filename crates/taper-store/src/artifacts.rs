use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use sha2::{Digest, Sha256};
use sqlx::{Row, sqlite::SqliteRow};
use taper_core::Control;

use crate::{Job, ObjectKey, Store, StoreError, ground::blocking, job::JobKey, writer::Tx};

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
    /// Of its bytes.
    pub fn key(&self, job: &Job) -> ObjectKey {
        ObjectKey::artifact(&job.id, &self.path)
    }

    fn read(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            path: row.try_get("path")?,
            bytes: row.try_get::<i64, _>("bytes")? as u64,
            sha256: row.try_get("sha256")?,
        })
    }
}

impl Store {
    /// Reads what a run has left in its output and hashes it, in the order of the paths, with a sign of life for each piece that is read;
    /// then it is kept. Nothing is written down yet.
    pub async fn survey_output(
        &self,
        job: &str,
        control: &Control,
    ) -> Result<Vec<Artifact>, StoreError> {
        let (prefix, output) = (ObjectKey::output(job), self.run_dir(job).join("output"));
        let (dir, control) = (output.clone(), control.clone());
        let surveyed = blocking("cannot read a run's output", move || {
            let mut found = Vec::new();
            survey(&dir, "", &control, &mut found)?;
            found.sort_by(|a: &Artifact, b| a.path.cmp(&b.path));
            Ok(found)
        });
        let found = surveyed.await?;
        let kept = self.objects().put_folder(&prefix, &output);
        kept.await
            .map_err(StoreError::io("cannot keep a run's output"))?;
        Ok(found)
    }

    /// Lists a job's artifacts in the order of their paths.
    pub async fn artifacts(&self, job: &Job) -> Result<Vec<Artifact>, StoreError> {
        let rows = sqlx::query("select * from artifacts where job = ? order by path")
            .bind(job.row)
            .fetch_all(&mut *self.reader().await?)
            .await?;
        let artifacts: Result<_, _> = rows.iter().map(Artifact::read).collect();
        Ok(artifacts?)
    }

    /// Looks an artifact up by its path.
    pub async fn artifact(&self, job: &Job, path: &str) -> Result<Option<Artifact>, StoreError> {
        let row = sqlx::query("select * from artifacts where job = ? and path = ?")
            .bind(job.row)
            .bind(path)
            .fetch_optional(&mut *self.reader().await?)
            .await?;
        Ok(row.as_ref().map(Artifact::read).transpose()?)
    }
}

fn survey(
    dir: &Path,
    prefix: &str,
    control: &Control,
    found: &mut Vec<Artifact>,
) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            survey(&entry.path(), &format!("{path}/"), control, found)?;
            continue;
        }
        let mut hash = Sha256::new();
        let file = fs::File::open(entry.path())?;
        let bytes = io::copy(&mut HeartbeatReader { file, control }, &mut hash)?;
        found.push(Artifact {
            path,
            bytes,
            sha256: format!("{:x}", hash.finalize()),
        });
    }
    Ok(())
}

/// A file whose reader shows with each piece that it is alive.
struct HeartbeatReader<'a> {
    file: fs::File,
    control: &'a Control,
}

impl Read for HeartbeatReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.control.heartbeat();
        self.file.read(buffer)
    }
}

impl Tx {
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
            .execute(&mut self.connection)
            .await?;
        }
        Ok(())
    }
}
