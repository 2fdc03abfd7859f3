//! Models that jobs have made: found by name, and deleted without their jobs.

use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection, sqlite::SqliteRow};
use taper_core::JobState;

use crate::{Checkpoint, Job, ObjectKey, Scope, Store, StoreError, ground::now, writer::Tx};

/// Between the name of a tuned model and the step of one of its checkpoints.
const CHECKPOINT_MARK: &str = ":ckpt-step-";
/// Folders of a job's output that are the model; reports beside them stay.
pub(crate) const MODEL_FOLDERS: [&str; 2] = ["adapter", "model"];

/// A model that a succeeded job has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunedModel {
    pub name: String,
    /// Unix seconds.
    pub created_at: i64,
}

/// What a name stands for that a job has made.
#[derive(Debug, Clone)]
pub struct TunedFrom {
    pub job: Job,
    /// The state at a step, where the name tells one; else the result.
    pub checkpoint: Option<Checkpoint>,
}

/// What a name is to stand for when its users are looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    /// The model or the checkpoint of that name.
    Name,
    /// The model and all its checkpoints.
    Checkpoints,
}

impl Store {
    /// The models that jobs have made, newest first.
    pub async fn tuned_models(&self, scope: &Scope) -> Result<Vec<TunedModel>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(
            "select fine_tuned_model, finished_at from jobs
             where fine_tuned_model is not null and model_deleted_at is null",
        );
        scope.narrow(&mut query, "project");
        query.push(" order by row desc");
        let rows = query.build().fetch_all(&mut *self.reader().await?).await?;
        let read = |row: &SqliteRow| {
            Ok(TunedModel {
                name: row.try_get("fine_tuned_model")?,
                created_at: row.try_get("finished_at")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Finds what a job has made, by its name: the result of a succeeded job, or a checkpoint of one that has ended.
    pub async fn tuned(&self, scope: &Scope, name: &str) -> Result<Option<TunedFrom>, StoreError> {
        let found = find(&mut *self.reader().await?, scope, name).await?;
        let Some((job, step)) = found else {
            return Ok(None);
        };
        let Some(step) = step else {
            return Ok(Some(TunedFrom {
                job,
                checkpoint: None,
            }));
        };
        let checkpoints = self.checkpoints(&job, None, u32::MAX - 1).await?.data;
        let checkpoint = checkpoints.into_iter().find(|it| it.step == step);
        Ok(checkpoint.map(|checkpoint| TunedFrom {
            job,
            checkpoint: Some(checkpoint),
        }))
    }

    /// Deletes a model that a job has made, or a checkpoint; false when there is none of that name.
    ///
    /// # Errors
    /// [`StoreError::ModelInUse`] while a job that has not ended starts from it.
    pub async fn delete_model(&self, scope: &Scope, name: &str) -> Result<bool, StoreError> {
        let (scope, name) = (scope.clone(), name.to_owned());
        let gone = self.write(|tx| Box::pin(tx.delete_model(scope, name)));
        let Some(gone) = gone.await? else {
            return Ok(false);
        };
        for key in gone {
            let deleted = self.objects().delete(&key).await;
            deleted.map_err(StoreError::io("cannot remove a model"))?;
        }
        Ok(true)
    }
}

/// The job that a name comes from, and the step if it names a checkpoint.
async fn find(
    connection: &mut SqliteConnection,
    scope: &Scope,
    name: &str,
) -> Result<Option<(Job, Option<u64>)>, StoreError> {
    let (model, step) = match name.split_once(CHECKPOINT_MARK) {
        Some((model, text)) => match text.parse::<u64>() {
            // One name for each checkpoint, or its users would not be found.
            Ok(step) if step.to_string() == text => (model, Some(step)),
            _ => return Ok(None),
        },
        None => (name, None),
    };
    let mark = model.rsplit(':').next().unwrap_or_default();
    let rows = sqlx::query("select * from jobs where substr(id, -8) = ?")
        .bind(mark)
        .fetch_all(connection)
        .await?;
    for row in &rows {
        let job = Job::read(row)?;
        let is_there = match step {
            Some(_) => job.state.is_terminal(),
            None => {
                let deleted: Option<i64> = row.try_get("model_deleted_at")?;
                job.state == JobState::Succeeded && deleted.is_none()
            }
        };
        if is_there && scope.holds(&job.project) && job.tuned_model_name() == model {
            return Ok(Some((job, step)));
        }
    }
    Ok(None)
}

impl Tx {
    /// Deletes the rows, and tells what has lost its own.
    async fn delete_model(
        &mut self,
        scope: Scope,
        name: String,
    ) -> Result<Option<Vec<ObjectKey>>, StoreError> {
        let Some((job, step)) = find(&mut self.connection, &scope, &name).await? else {
            return Ok(None);
        };
        self.require_unused(&name, Span::Name).await?;
        let Some(step) = step else {
            self.forget_result(&job).await?;
            let gone = MODEL_FOLDERS.map(|folder| ObjectKey::artifact(&job.id, folder));
            return Ok(Some(gone.into()));
        };
        let folder: Option<String> = sqlx::query_scalar(
            "delete from checkpoints where job = ? and step = ? returning folder",
        )
        .bind(job.row)
        .bind(step as i64)
        .fetch_optional(&mut self.connection)
        .await?;
        Ok(folder.map(|folder| vec![ObjectKey::checkpoint(&job.id, &folder)]))
    }

    async fn forget_result(&mut self, job: &Job) -> Result<(), StoreError> {
        sqlx::query("update jobs set model_deleted_at = ? where row = ?")
            .bind(now())
            .bind(job.row)
            .execute(&mut self.connection)
            .await?;
        for folder in MODEL_FOLDERS {
            sqlx::query("delete from artifacts where job = ? and path like ?")
                .bind(job.row)
                .bind(format!("{folder}/%"))
                .execute(&mut self.connection)
                .await?;
        }
        Ok(())
    }

    /// Makes sure that no open job starts from a model, or from an adapter on top of it.
    ///
    /// # Errors
    /// [`StoreError::ModelInUse`]
    pub(crate) async fn require_unused(
        &mut self,
        model: &str,
        span: Span,
    ) -> Result<(), StoreError> {
        let user: Option<String> = sqlx::query_scalar(
            "with recursive bases(job, name) as (
                select id, json_extract(spec, '$.model') from jobs
                where state in ('validating_files', 'queued', 'running', 'paused')
                union
                select bases.job, json_extract(jobs.spec, '$.model') from bases join jobs
                on bases.name like 'ft:%' and substr(jobs.id, -8) = substr(
                    case instr(bases.name, ?2) when 0 then bases.name else substr(bases.name, 1, instr(bases.name, ?2) - 1) end,
                    -8)
             )
             select job from bases
             where name = ?1 or (?3 and substr(name, 1, length(?1) + length(?2)) = ?1 || ?2) limit 1",
        )
        .bind(model)
        .bind(CHECKPOINT_MARK)
        .bind(span == Span::Checkpoints)
        .fetch_optional(&mut self.connection)
        .await?;
        match user {
            Some(job) => Err(StoreError::ModelInUse {
                model: model.to_owned(),
                job,
            }),
            None => Ok(()),
        }
    }
}
