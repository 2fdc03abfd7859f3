//! From which checkpoint a run goes on.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use taper_core::{CheckpointRefused, Control, ErrorCode, JobError, RunSpec, Trainer};
use taper_store::{Job, Store};

use crate::attempt_error::AttemptError;

/// More checkpoints than `save_total_limit` lets a job keep.
const ALL: u32 = 20_000;

/// Finds where runs go on.
pub(crate) struct ResumePoints {
    pub(crate) store: Store,
    pub(crate) trainer: Arc<dyn Trainer>,
}

impl ResumePoints {
    /// The newest whole checkpoint of a job. Those that are not whole are forgotten, and the job's log says so; a job that has lost all
    /// of them fails rather than begin again unasked. One that does not go with model, data or settings ends the attempt and nothing is
    /// forgotten: a file that is put back must not have cost the job its training.
    pub(crate) async fn find(
        &self,
        job: &Job,
        run: &RunSpec,
        control: &Control,
    ) -> Result<Option<PathBuf>, AttemptError> {
        let known = self.store.checkpoints(job, None, ALL).await?;
        let mut refused = Vec::new();
        for checkpoint in known.data {
            let dir = self.store.local(&checkpoint.key).await?;
            match self.verify(run, &dir, control).await? {
                Err(CheckpointRefused::Damaged(reason)) => refused.push((checkpoint, reason)),
                Err(CheckpointRefused::Unusable(reason)) => {
                    return Err(unusable(checkpoint.step, &reason).into());
                }
                Ok(()) => {
                    if !refused.is_empty() {
                        let told = self.store.refuse_checkpoints(&job.id, job.attempt, refused);
                        told.await?;
                    }
                    return Ok(Some(dir));
                }
            }
        }
        match refused.first() {
            Some((newest, reason)) => Err(all_refused(refused.len(), newest.step, reason).into()),
            None => Ok(None),
        }
    }

    async fn verify(
        &self,
        run: &RunSpec,
        dir: &Path,
        control: &Control,
    ) -> Result<Result<(), CheckpointRefused>, AttemptError> {
        let (trainer, run, dir) = (self.trainer.clone(), run.clone(), dir.to_owned());
        let at_work = control.clone();
        let verifying =
            tokio::task::spawn_blocking(move || trainer.verify(&run, &dir, &at_work)).await;
        // Who is told to stop has found nothing out.
        control.check()?;
        verifying.map_err(|error| AttemptError::internal(error.to_string()))
    }
}

fn unusable(step: u64, reason: &str) -> JobError {
    let message = format!(
        "the checkpoint of step {step} cannot be used now: {reason}; a retry goes on from it once that is put back"
    );
    JobError::new(ErrorCode::CheckpointUnusable, message).at_step(step)
}

fn all_refused(number: usize, newest: u64, reason: &str) -> JobError {
    let which = match number {
        1 => format!("the only checkpoint, of step {newest},"),
        _ => format!("none of the {number} checkpoints can be used; the newest, of step {newest},"),
    };
    let message = format!("{which} is damaged: {reason}; a retry begins at the start");
    JobError::new(ErrorCode::CheckpointCorrupt, message).at_step(newest)
}
