//! Where everything lies that a specification names.

use std::path::PathBuf;

use taper_core::{DataFile, FieldError, JobSpec, Project, RunSpec, SpecError};
use taper_store::{FileRecord, Job, Scope, Store, StoreError};

use crate::{
    attempt_error::AttemptError,
    base_model::{BaseModel, BaseModels},
    error::{SchedulerError, file_not_found},
    executors::Place,
};

const PURPOSE: &str = "fine-tune";

/// Makes runs of specifications.
pub(crate) struct Sources {
    pub(crate) store: Store,
    pub(crate) base_models: BaseModels,
    /// What a run is looked at for that has none yet.
    pub(crate) place: Place,
}

impl Sources {
    /// The run of a project's specification, which is not yet anybody's; tells all that is wrong with what it names.
    pub(crate) async fn run_of_spec(
        &self,
        spec: JobSpec,
        project: &Project,
    ) -> Result<RunSpec, SchedulerError> {
        let scope = Scope::from(project);
        let mut findings = Vec::new();
        let base = self.base_models.find(&scope, &spec.model).await?;
        let base = base.map_err(|finding| findings.push(finding)).ok();
        let named = ("training_file", spec.training_file.as_str());
        let training_file = self.find_file(&scope, named, &mut findings).await?;
        let validation_file = match &spec.validation_file {
            Some(id) => {
                let named = ("validation_file", id.as_str());
                self.find_file(&scope, named, &mut findings).await?
            }
            None => None,
        };
        SpecError::check(findings)?;
        match (base, training_file) {
            (Some(base), Some(training_file)) => {
                Ok(self.run(spec, base, training_file, validation_file))
            }
            _ => unreachable!("what is missing is a finding"),
        }
    }

    /// A job's run, as far as it is known before it has a place.
    pub(crate) async fn run_of_job(&self, job: &Job) -> Result<RunSpec, AttemptError> {
        let run = self.run_of_spec(job.spec.clone(), &job.project).await;
        let run = run.map_err(|error| match error {
            SchedulerError::Spec(error) => error.into(),
            SchedulerError::Store(error) => error.into(),
            error => AttemptError::internal(error.to_string()),
        })?;
        Ok(RunSpec {
            job_id: job.id.clone(),
            attempt: job.attempt,
            run_dir: self.store.run_dir(&job.id),
            pause_at_step: job.pause_at_step,
            ..run
        })
    }

    fn run(
        &self,
        spec: JobSpec,
        base: BaseModel,
        training_file: DataFile,
        validation_file: Option<DataFile>,
    ) -> RunSpec {
        RunSpec {
            job_id: String::new(),
            attempt: 0,
            spec,
            model_dir: base.dir,
            start_from: base.start_from,
            training_file,
            validation_file,
            run_dir: PathBuf::new(),
            device: self.place.device,
            threads: self.place.threads,
            resume_from: None,
            pause_at_step: None,
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
            path: self.store.local(&file.key()).await?,
            id: file.id,
            filename: file.filename,
            sha256: file.sha256,
        }))
    }
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
