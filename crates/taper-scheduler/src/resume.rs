use std::path::PathBuf;

use taper_core::{CheckpointRefused, Control, RunSpec, TrainError};
use taper_store::{Checkpoint, Job, StoreError};

use crate::{commit_retry::unkept, scheduler::Shared, validation::internal};

/// More checkpoints than `save_total_limit` lets a job keep.
const ALL: u32 = 20_000;
/// The code of a job that has trained and can go on from nothing.
pub(crate) const CORRUPT: &str = "checkpoint_corrupt";
/// The code of a job that can go on once what its checkpoint stands on is put back.
const UNUSABLE: &str = "checkpoint_unusable";

impl Shared {
    /// The newest whole checkpoint of a job. Those that are not whole are forgotten, and the job's log says so; a job that has lost all
    /// of them fails rather than begin again unasked. One that does not go with model, data or settings ends the attempt and nothing is
    /// forgotten: a file that is put back must not have cost the job its training.
    pub(crate) async fn resume_point(
        &self,
        job: &Job,
        run: &RunSpec,
        control: &Control,
    ) -> Result<Option<PathBuf>, TrainError> {
        let failed = |error: StoreError| unkept(&error);
        let known = self.store.checkpoints(job, None, ALL).await;
        let mut refused = Vec::new();
        for checkpoint in known.map_err(failed)?.data {
            match self.verify(run, &checkpoint, control).await? {
                Err(CheckpointRefused::Damaged(reason)) => refused.push((checkpoint, reason)),
                Err(CheckpointRefused::Unusable(reason)) => {
                    return Err(unusable(checkpoint.step, &reason));
                }
                Ok(()) => {
                    if !refused.is_empty() {
                        let told = self.store.refuse_checkpoints(&job.id, job.attempt, refused);
                        told.await.map_err(failed)?;
                    }
                    return Ok(Some(checkpoint.dir));
                }
            }
        }
        match refused.first() {
            Some((newest, reason)) => Err(all_refused(refused.len(), newest.step, reason)),
            None => Ok(None),
        }
    }

    async fn verify(
        &self,
        run: &RunSpec,
        checkpoint: &Checkpoint,
        control: &Control,
    ) -> Result<Result<(), CheckpointRefused>, TrainError> {
        let (trainer, run, dir) = (self.trainer.clone(), run.clone(), checkpoint.dir.clone());
        let line = control.clone();
        let verified = tokio::task::spawn_blocking(move || trainer.verify(&run, &dir, &line)).await;
        // Who is told to stop has found nothing out.
        control.check()?;
        verified.map_err(|error| internal(error.to_string()))
    }
}

fn unusable(step: u64, reason: &str) -> TrainError {
    TrainError::Failed {
        code: UNUSABLE.to_owned(),
        message: format!(
            "the checkpoint of step {step} cannot be used now: {reason}; a retry goes on from it once that is put back"
        ),
        param: None,
        step: Some(step),
    }
}

fn all_refused(number: usize, newest: u64, reason: &str) -> TrainError {
    let which = match number {
        1 => format!("the only checkpoint, of step {newest},"),
        _ => format!("none of the {number} checkpoints can be used; the newest, of step {newest},"),
    };
    TrainError::Failed {
        code: CORRUPT.to_owned(),
        message: format!("{which} is damaged: {reason}; a retry begins at the start"),
        param: None,
        step: Some(newest),
    }
}
