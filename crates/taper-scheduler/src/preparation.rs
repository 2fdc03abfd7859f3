//! Makes a claimed job ready to run.

use std::sync::Arc;

use taper_core::{Control, RunSpec};
use taper_store::{Job, Store};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    attempt_error::{AttemptError, Tries},
    commit_retry::RETRY,
    executors::{Place, Ticket},
    resume::ResumePoints,
    sources::Sources,
};

pub(crate) struct Preparation {
    pub(crate) store: Store,
    pub(crate) sources: Arc<Sources>,
    pub(crate) resume_points: ResumePoints,
    pub(crate) stopping: CancellationToken,
}

impl Preparation {
    /// The ticket of an attempt. What the store refuses for now is tried again while nothing better can be done.
    pub(crate) async fn prepare(
        &self,
        job: &Job,
        control: &Control,
        (index, place): (usize, Place),
    ) -> Result<Ticket, AttemptError> {
        let mut tries = Tries::default();
        loop {
            control.heartbeat();
            let prepared = self.try_to_prepare(job, control, place).await;
            match prepared.map_err(|error| tries.count(error)) {
                Err(AttemptError::StoreUnavailable(error)) if self.may_wait(control) => {
                    tracing::warn!(job.id = %job.id, %error, "a run could not be prepared; it is tried again");
                    sleep(RETRY).await;
                }
                prepared => {
                    return Ok(Ticket {
                        place: index,
                        run: prepared?,
                    });
                }
            }
        }
    }

    /// The ticket of an attempt that runs already: what it goes on from was decided when it began.
    pub(crate) async fn again(
        &self,
        job: &Job,
        (index, place): (usize, Place),
    ) -> Result<Ticket, AttemptError> {
        let run = self.sources.run_of_job(job).await?;
        Ok(Ticket {
            place: index,
            run: placed(run, place),
        })
    }

    /// Tells whether a run may go on waiting in its slot: nobody wants it to leave, and the queue is no better place.
    fn may_wait(&self, control: &Control) -> bool {
        control.requested().is_none()
            && !self.stopping.is_cancelled()
            && self.store.shortage().is_none()
    }

    async fn try_to_prepare(
        &self,
        job: &Job,
        control: &Control,
        place: Place,
    ) -> Result<RunSpec, AttemptError> {
        let mut run = placed(self.sources.run_of_job(job).await?, place);
        run.resume_from = self.resume_points.find(job, &run, control).await?;
        self.store.make_run_dir(&job.id).await?;
        Ok(run)
    }
}

fn placed(run: RunSpec, place: Place) -> RunSpec {
    RunSpec {
        device: place.device,
        threads: place.threads,
        ..run
    }
}
