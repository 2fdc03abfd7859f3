//! What requests for jobs go through before anything is kept.

use std::sync::Arc;

use taper_core::{Control, JobSpec, Plan, Project, RequestedAction, RunSpec, SpecError, Trainer};
use taper_store::{Job, NewJob, Store};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    admission::{self, Admission},
    blocking::blocking,
    error::SchedulerError,
    sources::Sources,
    validation_queue::ValidationQueue,
};

/// Plans made for requests at the same time: they take the cores from training.
const PLANS: usize = 2;

/// Accepts jobs.
pub(crate) struct Submission {
    pub(crate) store: Store,
    pub(crate) trainer: Arc<dyn Trainer>,
    pub(crate) sources: Arc<Sources>,
    pub(crate) admission: Admission,
    pub(crate) validations: ValidationQueue,
    pub(crate) plans: Plans,
    pub(crate) stopping: CancellationToken,
}

/// One permit for each plan that may be made for a request at the same time.
pub(crate) struct Plans(Arc<Semaphore>);

impl Default for Plans {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(PLANS)))
    }
}

/// The control of work for a request; the work ends with the request that it is for.
#[derive(Default)]
struct ForRequest(Control);

impl Drop for ForRequest {
    fn drop(&mut self) {
        self.0.request(RequestedAction::Cancel);
    }
}

impl Submission {
    /// Accepts a job after a quick look at its model and files.
    pub(crate) async fn submit(&self, mut job: NewJob) -> Result<Job, SchedulerError> {
        job.spec = self.inspect(job.spec, &job.project).await?;
        let training_file = job.spec.training_file.clone();
        let created = self.store.create_job(job).await;
        let job = created.map_err(|error| SchedulerError::creating(error, &training_file))?;
        self.validations.send(&job.id);
        Ok(job)
    }

    /// A quick look at model, rows and memory; gives the specification with every value in force.
    pub(crate) async fn inspect(
        &self,
        spec: JobSpec,
        project: &Project,
    ) -> Result<JobSpec, SchedulerError> {
        let request = ForRequest::default();
        Ok(self.inspected(spec, project, &request.0).await?.spec)
    }

    /// What a job of a project would do and take; nothing is kept.
    pub(crate) async fn plan(
        &self,
        project: &Project,
        spec: JobSpec,
    ) -> Result<Plan, SchedulerError> {
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => Err(SchedulerError::Stopping),
            plan = self.make_plan(project, spec) => plan,
        }
    }

    async fn make_plan(&self, project: &Project, spec: JobSpec) -> Result<Plan, SchedulerError> {
        let permit = self.plans.0.clone().acquire_owned().await;
        let permit = permit.map_err(|_| SchedulerError::Stopping)?;
        let request = ForRequest::default();
        let run = self.inspected(spec, project, &request.0).await?;
        let (trainer, control) = (self.trainer.clone(), request.0.clone());
        let admission = self.admission.clone();
        let planned = blocking(move || {
            let plan = trainer.check(&run, &control);
            // The work goes on for a moment when its request has gone.
            drop(permit);
            let plan = plan.map_err(admission::as_finding)?;
            admission.check_disk(&run, &plan)?;
            Ok::<_, SpecError>(plan)
        });
        Ok(planned.await??)
    }

    async fn inspected(
        &self,
        spec: JobSpec,
        project: &Project,
        control: &Control,
    ) -> Result<RunSpec, SchedulerError> {
        if self.stopping.is_cancelled() {
            return Err(SchedulerError::Stopping);
        }
        let mut run = self.sources.run_of_spec(spec, project).await?;
        let (trainer, admission) = (self.trainer.clone(), self.admission.clone());
        let control = control.clone();
        let inspected = blocking(move || {
            let said = run.spec.training.max_length.is_some();
            run.spec = trainer.inspect(&run)?;
            if said {
                admission.admit(&run, &control)?;
            } else {
                admission.shorten(&mut run, &control)?;
            }
            Ok::<_, SpecError>(run)
        });
        Ok(inspected.await??)
    }
}
