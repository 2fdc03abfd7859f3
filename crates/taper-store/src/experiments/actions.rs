//! What users do to an experiment as a whole: the same to all of its jobs, in one transaction.

use taper_core::{Action, JobState, Level, Reason, RequestedAction};

use super::experiment::{ExperimentRecord, find, jobs_of};
use crate::{Change, Job, Store, StoreError, Transition, writer::Tx};

impl Store {
    /// Cancels or pauses all jobs of an experiment that have not ended, and answers with those that it has changed: one that is
    /// running, or for a pause is being validated, keeps its state, and its worker has to be told.
    pub async fn stop_experiment(
        &self,
        experiment: &ExperimentRecord,
        action: RequestedAction,
    ) -> Result<Vec<Job>, StoreError> {
        let id = experiment.id.clone();
        self.write(move |tx| Box::pin(tx.stop_experiment(id, action)))
            .await
    }

    /// Puts all jobs of an experiment that users have paused back into the queue; those at a rung wait on. Answers with those that were
    /// to be paused and have not left their workers or their validation yet: they need not leave any more.
    pub async fn resume_experiment(
        &self,
        experiment: &ExperimentRecord,
    ) -> Result<Vec<Job>, StoreError> {
        let id = experiment.id.clone();
        self.write(|tx| Box::pin(tx.resume_experiment(id))).await
    }

    /// Forgets an experiment with all its jobs and what they have left; false when there is none of which all jobs have ended.
    ///
    /// # Errors
    /// [`StoreError::ModelInUse`] while a job that has not ended starts from what one of them has made.
    pub async fn delete_experiment(
        &self,
        experiment: &ExperimentRecord,
    ) -> Result<bool, StoreError> {
        let id = experiment.id.clone();
        let deleted = self.write(|tx| Box::pin(tx.delete_experiment(id)));
        let Some(gone) = deleted.await? else {
            return Ok(false);
        };
        for (job, files) in gone {
            self.remove_traces(&job, &files).await;
        }
        Ok(true)
    }
}

/// Jobs that have gone, each with the ids of its result files.
type GoneJobs = Vec<(String, Vec<String>)>;

impl Tx {
    async fn stop_experiment(
        &mut self,
        id: String,
        action: RequestedAction,
    ) -> Result<Vec<Job>, StoreError> {
        if action == RequestedAction::Pause {
            self.hold_experiment(&id, true).await?;
        }
        let mut stopped = Vec::new();
        for job in jobs_of(&mut self.connection, &id).await? {
            let held = match (job.state, action) {
                (JobState::Running, _) | (JobState::ValidatingFiles, RequestedAction::Pause) => {
                    true
                }
                (
                    JobState::ValidatingFiles | JobState::Queued | JobState::Paused,
                    RequestedAction::Cancel,
                )
                | (JobState::Queued, RequestedAction::Pause) => false,
                _ => continue,
            };
            let changed = match held {
                true => self.request(&job.id, action).await?,
                false => self.transition(&stop(&job, action)).await?,
            };
            stopped.extend(changed);
        }
        Ok(stopped)
    }

    async fn hold_experiment(&mut self, id: &str, paused: bool) -> Result<(), StoreError> {
        sqlx::query("update experiments set paused = ? where id = ?")
            .bind(paused)
            .bind(id)
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }

    async fn resume_experiment(&mut self, id: String) -> Result<Vec<Job>, StoreError> {
        self.hold_experiment(&id, false).await?;
        let staying = sqlx::query(
            "update jobs set wish = null where experiment_id = ? and wish = 'pause' returning *",
        )
        .bind(&id)
        .fetch_all(&mut self.connection)
        .await?;
        for job in jobs_of(&mut self.connection, &id).await? {
            if job.state == JobState::Paused && job.reason != Some(Reason::Rung) {
                let message = "The job was resumed with its experiment".to_owned();
                self.transition(&transition(&job, JobState::Queued, message))
                    .await?;
            }
        }
        staying.iter().map(Job::read).collect()
    }

    async fn delete_experiment(&mut self, id: String) -> Result<Option<GoneJobs>, StoreError> {
        if find(&mut self.connection, &id).await?.is_none() {
            return Ok(None);
        }
        let jobs = jobs_of(&mut self.connection, &id).await?;
        if !jobs
            .iter()
            .all(|job| Action::Delete.from().contains(&job.state))
        {
            return Ok(None);
        }
        let mut gone = Vec::new();
        for job in jobs {
            // It goes with its last job.
            let files = self.delete_job(&job.id).await?;
            gone.push((job.id, files.unwrap_or_default()));
        }
        Ok(Some(gone))
    }
}

fn stop(job: &Job, action: RequestedAction) -> Transition {
    let (to, done) = match action {
        RequestedAction::Pause => (JobState::Paused, Action::Pause.done()),
        RequestedAction::Cancel => (JobState::Cancelled, Action::Cancel.done()),
    };
    transition(job, to, format!("The job was {done} with its experiment"))
}

fn transition(job: &Job, to: JobState, message: String) -> Transition {
    let from: &[JobState] = match to {
        JobState::Paused => &[JobState::Queued],
        JobState::Queued => &[JobState::Paused],
        _ => &[
            JobState::ValidatingFiles,
            JobState::Queued,
            JobState::Paused,
        ],
    };
    Transition {
        job: job.id.clone(),
        from,
        attempt: None,
        to,
        level: Level::Info,
        message,
        change: Change::default(),
    }
}
