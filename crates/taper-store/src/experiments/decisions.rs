//! What an experiment decides upon its own runs.

use taper_core::{
    JobState, Level, Reason,
    experiment::{Move, Next, decide},
};

use super::experiment::{find, jobs_of};
use crate::{Change, Job, Store, StoreError, Transition, writer::Tx};

impl Store {
    /// Ids of the experiments that have runs at a rung and that no user has paused.
    pub async fn experiments_at_rung(&self) -> Result<Vec<String>, StoreError> {
        let ids = sqlx::query_scalar(
            "select id from experiments where not paused
             and exists (select 1 from jobs where experiment_id = experiments.id and reason = 'rung')
             order by row",
        )
        .fetch_all(&mut *self.reader().await?)
        .await?;
        Ok(ids)
    }

    /// Lets the best runs of a rung go on and stops the others, if all of them have come to it. Tells whether any goes on.
    pub async fn decide_rung(&self, experiment: &str) -> Result<bool, StoreError> {
        let id = experiment.to_owned();
        self.write(|tx| Box::pin(tx.decide_rung(id))).await
    }
}

impl Tx {
    async fn decide_rung(&mut self, id: String) -> Result<bool, StoreError> {
        let experiment = find(&mut self.connection, &id).await?;
        let Some(experiment) = experiment.filter(|experiment| !experiment.paused) else {
            return Ok(false);
        };
        let jobs = jobs_of(&mut self.connection, &id).await?;
        let runs: Vec<_> = jobs.iter().filter_map(Job::run).collect();
        let mut goes_on = false;
        for it in decide(&experiment.spec, &runs) {
            goes_on |= matches!(it.next, Next::Promote { .. });
            self.follow(it).await?;
        }
        Ok(goes_on)
    }

    async fn follow(&mut self, it: Move) -> Result<(), StoreError> {
        let (to, reason) = match it.next {
            Next::Promote { pause_at_step } => {
                sqlx::query("update jobs set pause_at_step = ? where id = ?")
                    .bind(pause_at_step.map(|step| step as i64))
                    .bind(&it.job)
                    .execute(&mut self.connection)
                    .await?;
                (JobState::Queued, None)
            }
            Next::Stop => (JobState::Cancelled, Some(Reason::StoppedEarly)),
        };
        self.transition(&Transition {
            job: it.job,
            from: &[JobState::Paused],
            attempt: None,
            to,
            level: Level::Info,
            message: it.message,
            change: Change {
                reason,
                ..Change::default()
            },
        })
        .await?;
        Ok(())
    }
}
