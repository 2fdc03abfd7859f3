//! What happens to jobs under which a server has ended.

use taper_core::{ErrorCode, JobError, JobState, Level};

use crate::{Change, Store, StoreError, Transition, writer::Tx};

/// Deaths of the server in a row after which a job is no longer tried.
const MOST_CRASHES: u32 = 3;

/// What became of the jobs under which the last server ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    pub queued: Vec<String>,
    pub failed: Vec<String>,
    /// Under an executor that outlives the server.
    pub running: Vec<String>,
}

impl Store {
    /// Puts the jobs that were running when the last server ended back into the queue, or lets them fail after three crashes.
    pub async fn recover(&self) -> Result<Recovered, StoreError> {
        self.recover_unseen(Vec::new()).await
    }

    /// As [`Store::recover`], but jobs of which the current attempt was seen running are left alone.
    pub async fn recover_unseen(&self, seen: Vec<(String, u32)>) -> Result<Recovered, StoreError> {
        self.write(|tx| Box::pin(tx.recover(seen))).await
    }
}

impl Tx {
    async fn recover(&mut self, seen: Vec<(String, u32)>) -> Result<Recovered, StoreError> {
        let running: Vec<(String, u32)> =
            sqlx::query_as("select id, attempt from jobs where state = 'running' order by row")
                .fetch_all(&mut self.connection)
                .await?;
        let mut recovered = Recovered::default();
        for attempt in running {
            if seen.contains(&attempt) {
                recovered.running.push(attempt.0);
                continue;
            }
            let (id, _) = attempt;
            let crashes: u32 = sqlx::query_scalar(
                "update jobs set crashes = crashes + 1 where id = ? returning crashes",
            )
            .bind(&id)
            .fetch_one(&mut self.connection)
            .await?;
            let transition = if crashes >= MOST_CRASHES {
                recovered.failed.push(id.clone());
                crashed(id, crashes)
            } else {
                recovered.queued.push(id.clone());
                self.requeued(id).await?
            };
            self.transition(&transition).await?;
        }
        Ok(recovered)
    }

    async fn requeued(&mut self, job: String) -> Result<Transition, StoreError> {
        let row = sqlx::query_scalar("select row from jobs where id = ?")
            .bind(&job)
            .fetch_one(&mut self.connection)
            .await?;
        let from = match self.last_step(row).await? {
            (0, _) => "the start".to_owned(),
            (step, _) => format!("step {step}"),
        };
        Ok(Transition {
            job,
            from: &[JobState::Running],
            attempt: None,
            to: JobState::Queued,
            level: Level::Warn,
            message: format!(
                "The server ended while this job was running; it will go on from {from}"
            ),
            change: Change::default(),
        })
    }
}

fn crashed(job: String, crashes: u32) -> Transition {
    let message = format!(
        "The server ended {crashes} times in a row under this job without a new checkpoint; it is no longer tried"
    );
    Transition {
        job,
        from: &[JobState::Running],
        attempt: None,
        to: JobState::Failed,
        level: Level::Error,
        message: message.clone(),
        change: Change {
            error: Some(JobError::new(ErrorCode::Crashed, message)),
            ..Change::default()
        },
    }
}
