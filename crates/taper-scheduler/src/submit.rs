use std::path::PathBuf;

use taper_core::{
    Command, Control, DataFile, FieldError, JobSpec, Plan, Project, RunSpec, SpecError, code,
};
use taper_store::{FileRecord, Job, NewJob, Scope, StoreError};

use crate::{Scheduler, SchedulerError, admission, base::Base, scheduler::Shared};

const PURPOSE: &str = "fine-tune";

/// Where everything lies that a specification names.
pub(crate) struct Sources {
    base: Base,
    training_file: DataFile,
    validation_file: Option<DataFile>,
}

impl Scheduler {
    /// Accepts a job after a quick look at its model and files.
    ///
    /// # Errors
    /// [`SchedulerError::Spec`] with the field that is wrong.
    pub async fn submit(&self, job: impl Into<NewJob>) -> Result<Job, SchedulerError> {
        let mut job: NewJob = job.into();
        let shared = &self.shared;
        if shared.stopping.is_cancelled() {
            return Err(SchedulerError::Stopping);
        }
        let asked = Asked::default();
        job.spec = shared.inspect(job.spec, &job.project, &asked.0).await?.spec;
        let training_file = job.spec.training_file.clone();
        let created = shared.store.create_job(job).await;
        let job = created.map_err(|error| unknown_file(error, &training_file))?;
        // After a shutdown nobody listens any more, and the next start validates it.
        drop(shared.unvalidated.send(job.id.clone()));
        Ok(job)
    }

    /// What a job of a project would do and take; nothing is kept.
    ///
    /// # Errors
    /// [`SchedulerError::Spec`] with the field that is wrong, as for a real submission.
    pub async fn plan(&self, project: &Project, spec: JobSpec) -> Result<Plan, SchedulerError> {
        tokio::select! {
            biased;
            () = self.shared.stopping.cancelled() => Err(SchedulerError::Stopping),
            plan = self.shared.plan(project, spec) => plan,
        }
    }
}

/// The line to the work for a request; the work ends with the request that it is for.
#[derive(Default)]
pub(crate) struct Asked(pub(crate) Control);

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.give(Command::Cancel);
    }
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, SchedulerError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| SchedulerError::Inspection(error.to_string()))
}

impl Shared {
    async fn plan(&self, project: &Project, spec: JobSpec) -> Result<Plan, SchedulerError> {
        let permit = self.plans.clone().acquire_owned().await;
        let permit = permit.map_err(|_| SchedulerError::Stopping)?;
        let asked = Asked::default();
        let run = self.inspect(spec, project, &asked.0).await?;
        let (trainer, control) = (self.trainer.clone(), asked.0.clone());
        let most = self.store.limits().max_bytes;
        let planned = blocking(move || {
            let plan = trainer.check(&run, &control);
            // The work goes on for a moment when its request has gone.
            drop(permit);
            let plan = plan.map_err(admission::as_finding)?;
            admission::check_disk(most, &run, &plan)?;
            Ok::<_, SpecError>(plan)
        });
        Ok(planned.await??)
    }

    /// A quick look at model, rows and memory; gives the run with every value in force.
    pub(crate) async fn inspect(
        &self,
        spec: JobSpec,
        project: &Project,
        control: &Control,
    ) -> Result<RunSpec, SchedulerError> {
        let sources = self.find_sources(&spec, project).await?;
        let mut run = self.run_spec(spec, sources);
        let (trainer, limit) = (self.trainer.clone(), self.config.memory_limit);
        let control = control.clone();
        let inspected = blocking(move || {
            run.spec = trainer.inspect(&run)?;
            admission::admit(&*trainer, limit, &run, &control)?;
            Ok::<_, SpecError>(run)
        });
        Ok(inspected.await??)
    }

    /// Finds the files and the model that a project's specification names, and tells all that is wrong with them.
    pub(crate) async fn find_sources(
        &self,
        spec: &JobSpec,
        project: &Project,
    ) -> Result<Sources, SchedulerError> {
        let scope = Scope::from(project);
        let mut findings = Vec::new();
        let base = self.find_base(&scope, &spec.model).await?;
        let base = base.map_err(|finding| findings.push(finding)).ok();
        let training_file = self
            .find_file(
                &scope,
                ("training_file", &spec.training_file),
                &mut findings,
            )
            .await?;
        let validation_file = match &spec.validation_file {
            Some(id) => {
                self.find_file(&scope, ("validation_file", id), &mut findings)
                    .await?
            }
            None => None,
        };
        SpecError::check(findings)?;
        match (base, training_file) {
            (Some(base), Some(training_file)) => Ok(Sources {
                base,
                training_file,
                validation_file,
            }),
            _ => unreachable!("what is missing is a finding"),
        }
    }

    async fn find_file(
        &self,
        scope: &Scope,
        (param, id): (&str, &str),
        findings: &mut Vec<FieldError>,
    ) -> Result<Option<DataFile>, StoreError> {
        let Some(file) = self.store.file(scope, id).await? else {
            findings.push(file_not_found(param, id));
            return Ok(None);
        };
        if file.purpose != PURPOSE {
            findings.push(wrong_purpose(param, &file));
            return Ok(None);
        }
        if let Err(error) = self.store.check_file(&file).await {
            tracing::error!(file = %file.id, %error, "a job names a damaged file");
            findings.push(damaged(param, &file.id));
            return Ok(None);
        }
        Ok(Some(DataFile {
            path: self.store.file_path(&file.id),
            id: file.id,
            filename: file.filename,
            sha256: file.sha256,
        }))
    }

    /// A run that is not yet anybody's: without a job, on the first device.
    pub(crate) fn run_spec(&self, spec: JobSpec, sources: Sources) -> RunSpec {
        RunSpec {
            job_id: String::new(),
            attempt: 0,
            spec,
            model_dir: sources.base.dir,
            start_from: sources.base.start_from,
            training_file: sources.training_file,
            validation_file: sources.validation_file,
            run_dir: PathBuf::new(),
            device: self
                .config
                .devices
                .first()
                .copied()
                .unwrap_or(taper_core::Device::Cpu),
            threads: self.config.threads,
            resume_from: None,
            pause_at_step: None,
        }
    }
}

/// Names the field of a file that has gone since it was looked at.
pub(crate) fn unknown_file(error: StoreError, training_file: &str) -> SchedulerError {
    let StoreError::UnknownFile(id) = error else {
        return error.into();
    };
    let param = if id == training_file {
        "training_file"
    } else {
        "validation_file"
    };
    SpecError::from(file_not_found(param, &id)).into()
}

fn file_not_found(param: &str, id: &str) -> FieldError {
    let id: String = id.chars().take(60).collect();
    let message = format!("the file '{id}' does not exist; upload it with POST /v1/files");
    FieldError::new(param, code::FILE_NOT_FOUND, message)
}

fn damaged(param: &str, id: &str) -> FieldError {
    let message =
        format!("the file {id} was damaged on the server's disk; delete it and upload it again");
    FieldError::invalid(param, message)
}

fn wrong_purpose(param: &str, file: &FileRecord) -> FieldError {
    let message = format!(
        "the file {} was uploaded with purpose '{}'; '{param}' takes files with purpose '{PURPOSE}'",
        file.id, file.purpose
    );
    FieldError::invalid(param, message)
}
