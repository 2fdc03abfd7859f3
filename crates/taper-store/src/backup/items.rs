//! What a database names on the disk.

use std::{fmt, path::Path};

use sqlx::{Connection, Row, SqliteConnection, sqlite::SqliteRow};

use crate::{ObjectKey, ground::now, tuned_models::MODEL_FOLDERS};

/// Something on the disk that the database lists.
#[derive(Debug, Clone)]
pub(super) enum Item {
    File {
        id: String,
        sha256: String,
    },
    Checkpoint {
        job: String,
        folder: String,
    },
    Artifact {
        job: String,
        path: String,
        sha256: String,
    },
}

/// How an item was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Copied, with so many bytes.
    Whole(u64),
    Damaged,
    Missing,
}

impl Item {
    pub(super) fn key(&self) -> ObjectKey {
        match self {
            Self::File { id, .. } => ObjectKey::file(id),
            Self::Checkpoint { job, folder } => ObjectKey::checkpoint(job, folder),
            Self::Artifact { job, path, .. } => ObjectKey::artifact(job, path),
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { id, .. } => write!(f, "file {id}"),
            Self::Checkpoint { job, folder } => write!(f, "checkpoint {folder} of job {job}"),
            Self::Artifact { job, path, .. } => write!(f, "{path} of job {job}"),
        }
    }
}

pub(super) async fn count_jobs(connection: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
    let jobs: i64 = sqlx::query_scalar("select count(*) from jobs")
        .fetch_one(connection)
        .await?;
    Ok(jobs as u64)
}

/// Lists everything, checkpoints first: those of a running job are superseded soon.
pub(super) async fn all(connection: &mut SqliteConnection) -> Result<Vec<Item>, sqlx::Error> {
    let files = sqlx::query("select id, sha256 from files order by row")
        .fetch_all(&mut *connection)
        .await?;
    let checkpoints = sqlx::query(
        "select jobs.id, folder from checkpoints join jobs on jobs.row = checkpoints.job
         order by checkpoints.row",
    )
    .fetch_all(&mut *connection)
    .await?;
    let artifacts = sqlx::query(
        "select jobs.id, path, sha256 from artifacts join jobs on jobs.row = artifacts.job
         order by artifacts.job, path",
    )
    .fetch_all(connection)
    .await?;
    let files = files.iter().map(|row| {
        Ok(Item::File {
            id: row.try_get("id")?,
            sha256: row.try_get("sha256")?,
        })
    });
    let checkpoints = checkpoints.iter().map(|row| {
        Ok(Item::Checkpoint {
            job: row.try_get("id")?,
            folder: row.try_get("folder")?,
        })
    });
    let artifacts = artifacts.iter().map(|row| {
        Ok(Item::Artifact {
            job: row.try_get("id")?,
            path: row.try_get("path")?,
            sha256: row.try_get("sha256")?,
        })
    });
    checkpoints.chain(files).chain(artifacts).collect()
}

/// The newest checkpoint of the job that a checkpoint belongs to, with its row.
pub(super) async fn newest_beside(
    connection: &mut SqliteConnection,
    item: &Item,
) -> Result<Option<(Item, SqliteRow)>, sqlx::Error> {
    let Item::Checkpoint { job, .. } = item else {
        return Ok(None);
    };
    let newest = sqlx::query(
        "select checkpoints.* from checkpoints join jobs on jobs.row = checkpoints.job
         where jobs.id = ? order by step desc limit 1",
    )
    .bind(job)
    .fetch_optional(connection)
    .await?;
    let Some(row) = newest else { return Ok(None) };
    let (job, folder) = (job.clone(), row.try_get("folder")?);
    Ok(Some((Item::Checkpoint { job, folder }, row)))
}

/// Lists a checkpoint as the `live` database does, with the curves that lead to it.
pub(super) async fn adopt(
    copy: &mut SqliteConnection,
    live: &mut SqliteConnection,
    item: &Item,
    row: &SqliteRow,
) -> Result<(), sqlx::Error> {
    let Item::Checkpoint { job, .. } = item else {
        return Ok(());
    };
    let step: i64 = row.try_get("step")?;
    let curves: Vec<(String, i64, Option<f64>)> = sqlx::query_as(
        "select name, step, value from metrics where job = (select row from jobs where id = ?) and step <= ?",
    )
    .bind(job)
    .bind(step)
    .fetch_all(live)
    .await?;
    let mut copy = copy.begin().await?;
    for (name, step, value) in curves {
        sqlx::query(
            "insert or replace into metrics (job, name, step, value)
             values ((select row from jobs where id = ?), ?, ?, ?)",
        )
        .bind(job)
        .bind(name)
        .bind(step)
        .bind(value)
        .execute(&mut *copy)
        .await?;
    }
    sqlx::query(
        "insert or replace into checkpoints (id, job, step, folder, created_at, bytes, metrics)
         values (?, (select row from jobs where id = ?), ?, ?, ?, ?, ?)",
    )
    .bind(row.try_get::<String, _>("id")?)
    .bind(job)
    .bind(step)
    .bind(row.try_get::<String, _>("folder")?)
    .bind(row.try_get::<i64, _>("created_at")?)
    .bind(row.try_get::<i64, _>("bytes")?)
    .bind(row.try_get::<String, _>("metrics")?)
    .execute(&mut *copy)
    .await?;
    copy.commit().await
}

/// Tells whether the database still lists an item.
pub(super) async fn is_known(
    connection: &mut SqliteConnection,
    item: &Item,
) -> Result<bool, sqlx::Error> {
    let query = match item {
        Item::File { id, .. } => {
            sqlx::query_scalar::<_, i64>("select 1 from files where id = ?").bind(id)
        }
        Item::Checkpoint { job, folder } => sqlx::query_scalar(
            "select 1 from checkpoints join jobs on jobs.row = checkpoints.job where jobs.id = ? and folder = ?",
        )
        .bind(job)
        .bind(folder),
        Item::Artifact { job, path, .. } => sqlx::query_scalar(
            "select 1 from artifacts join jobs on jobs.row = artifacts.job where jobs.id = ? and path = ?",
        )
        .bind(job)
        .bind(path),
    };
    Ok(query.fetch_optional(connection).await?.is_some())
}

/// Takes an item off the lists.
pub(super) async fn forget(
    connection: &mut SqliteConnection,
    item: &Item,
) -> Result<(), sqlx::Error> {
    let query = match item {
        Item::File { id, .. } => sqlx::query("delete from files where id = ?").bind(id),
        Item::Checkpoint { job, folder } => sqlx::query(
            "delete from checkpoints where job = (select row from jobs where id = ?) and folder = ?",
        )
        .bind(job)
        .bind(folder),
        Item::Artifact { job, path, .. } => sqlx::query(
            "delete from artifacts where job = (select row from jobs where id = ?) and path = ?",
        )
        .bind(job)
        .bind(path),
    };
    query.execute(&mut *connection).await?;
    if let Item::Artifact { job, path, .. } = item
        && MODEL_FOLDERS
            .iter()
            .any(|folder| Path::new(path).starts_with(folder))
    {
        // Without one of its files nothing can start from the model.
        sqlx::query(
            "update jobs set model_deleted_at = coalesce(model_deleted_at, ?) where id = ?",
        )
        .bind(now())
        .bind(job)
        .execute(connection)
        .await?;
    }
    Ok(())
}

/// Ends uploads of which only parts have come: those lie on the disk of the server alone.
pub(super) async fn forget_unfinished(
    connection: &mut SqliteConnection,
) -> Result<(), sqlx::Error> {
    let query = sqlx::query("delete from uploads where state = 'pending'");
    query.execute(connection).await.map(drop)
}
