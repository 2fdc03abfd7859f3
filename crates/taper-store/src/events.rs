use sqlx::{QueryBuilder, Row, Sqlite, sqlite::SqliteRow};
use taper_core::{Event, Metrics, NewEvent};

use crate::{
    Job, Page, Scope, Store, StoreError,
    ground::{from_json, from_word, metrics_from_json, now, to_json},
    job::JobKey,
    scope::project_of,
    writer::Tx,
};

const SELECT: &str = "select events.*, jobs.id as job_id, jobs.project from events
     join jobs on jobs.row = events.job where true";

pub(crate) fn read(row: &SqliteRow) -> Result<Event, StoreError> {
    let what = || format!("event {}", row.get::<i64, _>("row"));
    let data: Option<String> = row.try_get("data")?;
    let level: String = row.try_get("level")?;
    Ok(Event {
        row: row.try_get("row")?,
        job_id: row.try_get("job_id")?,
        project: project_of(row)?,
        seq: row.try_get("seq")?,
        created_at: row.try_get("created_at")?,
        level: from_word(what, &level)?,
        kind: row.try_get("kind")?,
        message: row.try_get("message")?,
        data: data.map(|data| from_json(what, &data)).transpose()?,
    })
}

impl Store {
    /// Appends what a run reports to its job's log, its curves and its last metrics.
    ///
    /// # Errors
    /// [`StoreError::StaleAttempt`] when the job is not running under `attempt`.
    pub async fn append(
        &self,
        job: &str,
        attempt: u32,
        events: Vec<NewEvent>,
    ) -> Result<(), StoreError> {
        let job = job.to_owned();
        self.write(move |tx| {
            Box::pin(async move {
                let key = tx.running(&job, attempt).await?;
                tx.log(&key, &events).await
            })
        })
        .await
    }

    /// Events of a job after sequence number `seq`, oldest first.
    pub async fn events_after(
        &self,
        job: &Job,
        seq: i64,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(SELECT);
        query.push(" and events.job = ").push_bind(job.row);
        query.push(" and seq > ").push_bind(seq);
        query.push(" order by seq limit ").push_bind(limit);
        self.read_events(query).await
    }

    /// Events of a job, newest first, older than the one with the row number `after`.
    ///
    /// # Errors
    /// [`StoreError::UnknownCursor`] when `after` is no event of this job.
    pub async fn events_page(
        &self,
        job: &Job,
        after: Option<i64>,
        limit: u32,
    ) -> Result<Page<Event>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(SELECT);
        query.push(" and events.job = ").push_bind(job.row);
        if let Some(after) = after {
            let seq: Option<i64> =
                sqlx::query_scalar("select seq from events where row = ? and job = ?")
                    .bind(after)
                    .bind(job.row)
                    .fetch_optional(&mut *self.reader().await?)
                    .await?;
            let seq = seq.ok_or_else(|| StoreError::UnknownCursor(after.to_string()))?;
            query.push(" and seq < ").push_bind(seq);
        }
        query
            .push(" order by seq desc limit ")
            .push_bind(i64::from(limit) + 1);
        Ok(Page::cut(self.read_events(query).await?, limit))
    }

    /// Events of all jobs of a scope, or of those named, after row number `row`, oldest first.
    pub async fn all_events_after(
        &self,
        scope: &Scope,
        row: i64,
        jobs: Option<&[String]>,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(SELECT);
        query.push(" and events.row > ").push_bind(row);
        scope.narrow(&mut query, "jobs.project");
        if let Some(jobs) = jobs {
            query.push(" and jobs.id in (");
            let mut ids = query.separated(", ");
            for id in jobs {
                ids.push_bind(id.clone());
            }
            ids.push_unseparated(")");
        }
        query.push(" order by events.row limit ").push_bind(limit);
        self.read_events(query).await
    }

    /// The row number of the newest event of all jobs, deleted ones included; 0 when there was none.
    pub async fn last_event_row(&self) -> Result<i64, StoreError> {
        let row = sqlx::query_scalar("select seq from sqlite_sequence where name = 'events'")
            .fetch_optional(&mut *self.reader().await?)
            .await?;
        Ok(row.unwrap_or(0))
    }

    /// The sequence number of a job's newest event, 0 when there is none.
    pub async fn last_event_seq(&self, job: &Job) -> Result<i64, StoreError> {
        let seq = sqlx::query_scalar("select coalesce(max(seq), 0) from events where job = ?")
            .bind(job.row)
            .fetch_one(&mut *self.reader().await?)
            .await?;
        Ok(seq)
    }

    async fn read_events(&self, mut query: QueryBuilder<Sqlite>) -> Result<Vec<Event>, StoreError> {
        let rows = query.build().fetch_all(&mut *self.reader().await?).await?;
        rows.iter().map(read).collect()
    }
}

impl Tx {
    /// The job, if it is running under this attempt.
    pub(crate) async fn running(&mut self, job: &str, attempt: u32) -> Result<JobKey, StoreError> {
        let found = sqlx::query(
            "select row, project from jobs where id = ? and state = 'running' and attempt = ?",
        )
        .bind(job)
        .bind(attempt)
        .fetch_optional(&mut self.connection)
        .await?;
        let id = job.to_owned();
        match found {
            Some(row) => Ok(JobKey {
                row: row.try_get("row")?,
                project: project_of(&row)?,
                id,
            }),
            None => Err(StoreError::StaleAttempt { job: id, attempt }),
        }
    }

    /// Writes events of a job, with their figures.
    pub(crate) async fn log(
        &mut self,
        job: &JobKey,
        events: &[NewEvent],
    ) -> Result<(), StoreError> {
        let mut figures = Metrics::new();
        for event in events {
            self.add_event(job, event).await?;
            self.extend_curves(job, &event.metrics).await?;
            figures.merge(&event.metrics);
        }
        if figures.is_empty() {
            return Ok(());
        }
        self.merge_metrics(job, &figures).await
    }

    /// Takes figures over into the job's last metrics.
    pub(crate) async fn merge_metrics(
        &mut self,
        job: &JobKey,
        figures: &Metrics,
    ) -> Result<(), StoreError> {
        let text: String = sqlx::query_scalar("select metrics from jobs where row = ?")
            .bind(job.row)
            .fetch_one(&mut self.connection)
            .await?;
        let mut metrics = metrics_from_json(|| format!("job {}", job.id), &text)?;
        metrics.merge(figures);
        self.set_metrics(job, &metrics).await
    }

    pub(crate) async fn set_metrics(
        &mut self,
        job: &JobKey,
        metrics: &Metrics,
    ) -> Result<(), StoreError> {
        sqlx::query("update jobs set metrics = ? where row = ?")
            .bind(to_json(metrics))
            .bind(job.row)
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }

    async fn add_event(&mut self, job: &JobKey, event: &NewEvent) -> Result<(), StoreError> {
        let created_at = now();
        let data = event.data.clone().map(serde_json::Value::Object);
        let row = sqlx::query(
            "insert into events (job, seq, created_at, level, kind, message, data)
             select ?1, coalesce(max(seq), 0) + 1, ?2, ?3, ?4, ?5, ?6 from events where job = ?1
             returning row, seq",
        )
        .bind(job.row)
        .bind(created_at)
        .bind(event.level.as_str())
        .bind(event.kind)
        .bind(&event.message)
        .bind(data.map(|data| data.to_string()))
        .fetch_one(&mut self.connection)
        .await?;
        self.events.push(Event {
            row: row.try_get("row")?,
            job_id: job.id.clone(),
            project: job.project.clone(),
            seq: row.try_get("seq")?,
            created_at,
            level: event.level,
            kind: event.kind.to_owned(),
            message: event.message.clone(),
            data: event.data.clone(),
        });
        Ok(())
    }
}
