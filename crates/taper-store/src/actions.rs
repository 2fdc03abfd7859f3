use serde_json::json;
use taper_core::{Action, Level, NewEvent, RequestedAction};

use crate::{Job, Store, StoreError, job::find, tuned_models::Span, writer::Tx};

impl Store {
    /// Keeps what a user wants of a job that is being validated or trained; `None` when it is not. A request to cancel stands.
    pub async fn request(
        &self,
        job: &Job,
        action: RequestedAction,
    ) -> Result<Option<Job>, StoreError> {
        let id = job.id.clone();
        self.write(move |tx| Box::pin(async move { tx.request(&id, action).await }))
            .await
    }

    /// Leaves a job that waits at its rung to its user, who wants it paused; `None` when it does not wait there.
    pub async fn hold(&self, job: &Job) -> Result<Option<Job>, StoreError> {
        let id = job.id.clone();
        self.write(|tx| Box::pin(tx.hold(id))).await
    }

    /// Changes when a job runs among others; `None` when there is none that has not ended.
    pub async fn prioritize(&self, job: &Job, priority: i32) -> Result<Option<Job>, StoreError> {
        let id = job.id.clone();
        self.write(move |tx| Box::pin(tx.prioritize(id, priority)))
            .await
    }

    /// Forgets an ended job with its model, its events and its folder; false when there is none that has ended.
    ///
    /// # Errors
    /// [`StoreError::ModelInUse`] while a job that has not ended starts from what it has made.
    pub async fn delete_job(&self, job: &Job) -> Result<bool, StoreError> {
        let id = job.id.clone();
        // The rows go first: a folder without a row is swept at the next start, a row without a folder would be a lie.
        let deleted = self.write(|tx| Box::pin(async move { tx.delete_job(&id).await }));
        let Some(files) = deleted.await? else {
            return Ok(false);
        };
        self.remove_traces(&job.id, &files).await;
        Ok(true)
    }

    /// Removes from the disk what a job has left whose rows have gone.
    pub(crate) async fn remove_traces(&self, job: &str, result_files: &[String]) {
        self.remove_run(job).await;
        self.remove_files(result_files).await;
    }
}

impl Tx {
    pub(crate) async fn request(
        &mut self,
        id: &str,
        action: RequestedAction,
    ) -> Result<Option<Job>, StoreError> {
        let job = sqlx::query_scalar::<_, i64>(
            "update jobs set wish = iif(wish = 'cancel', wish, ?)
             where id = ? and state in ('validating_files', 'running') returning row",
        )
        .bind(action.as_str())
        .bind(id)
        .fetch_optional(&mut self.connection)
        .await?;
        match job {
            Some(_) => find(&mut self.connection, id).await,
            None => Ok(None),
        }
    }

    async fn hold(&mut self, id: String) -> Result<Option<Job>, StoreError> {
        let held = sqlx::query(
            "update jobs set reason = null where id = ? and state = 'paused' and reason = 'rung'",
        )
        .bind(&id)
        .execute(&mut self.connection)
        .await?;
        let job = find(&mut self.connection, &id).await?;
        let Some(job) = job.filter(|_| held.rows_affected() == 1) else {
            return Ok(None);
        };
        let message = "The job was paused at its rung, and waits until it is resumed";
        self.log(&job.key(), &[NewEvent::message(Level::Info, message)])
            .await?;
        Ok(Some(job))
    }

    async fn prioritize(&mut self, id: String, priority: i32) -> Result<Option<Job>, StoreError> {
        let job = find(&mut self.connection, &id).await?;
        let Some(job) = job.filter(|job| Action::Reprioritize.from().contains(&job.state)) else {
            return Ok(None);
        };
        if job.priority == priority {
            return Ok(Some(job));
        }
        sqlx::query("update jobs set priority = ? where row = ?")
            .bind(priority)
            .bind(job.row)
            .execute(&mut self.connection)
            .await?;
        let message = format!(
            "The priority was changed from {} to {priority}",
            job.priority
        );
        let event = NewEvent {
            data: json!({ "priority": priority }).as_object().cloned(),
            ..NewEvent::message(Level::Info, message)
        };
        self.log(&job.key(), &[event]).await?;
        find(&mut self.connection, &id).await
    }

    /// Deletes the rows, and tells which result files have lost theirs.
    pub(crate) async fn delete_job(&mut self, id: &str) -> Result<Option<Vec<String>>, StoreError> {
        let job = find(&mut self.connection, id).await?;
        let Some(job) = job.filter(|job| Action::Delete.from().contains(&job.state)) else {
            return Ok(None);
        };
        let model = job.tuned_model_name();
        self.require_unused(&model, Span::Checkpoints).await?;
        // Its end is read off its events, which go with it.
        self.fill_webhooks().await?;
        for file in &job.result_files {
            sqlx::query("delete from files where id = ?")
                .bind(file)
                .execute(&mut self.connection)
                .await?;
        }
        sqlx::query("delete from jobs where row = ?")
            .bind(job.row)
            .execute(&mut self.connection)
            .await?;
        if let Some(part) = &job.part {
            self.forget_empty_experiment(&part.experiment).await?;
        }
        Ok(Some(job.result_files))
    }

    /// Forgets an experiment that has no jobs any more.
    async fn forget_empty_experiment(&mut self, id: &str) -> Result<(), StoreError> {
        sqlx::query(
            "delete from experiments where id = ?1 and not exists (select 1 from jobs where experiment_id = ?1)",
        )
        .bind(id)
        .execute(&mut self.connection)
        .await?;
        Ok(())
    }
}
