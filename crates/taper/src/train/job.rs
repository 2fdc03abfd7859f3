//! The command line made a run.

use std::{
    fs,
    path::{self, Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use taper_core::{DataFile, Device, JobSpec, RunSpec, TrainError};

use super::{Train, report};
use crate::{devices, digest::sha256_of};

impl Train {
    /// The run of this command; its folder and its checkpoint are not known here.
    ///
    /// # Errors
    /// What cannot be read, and what is wrong with the specification by itself, with the names of its fields.
    pub(super) fn job(&self, threads: usize) -> Result<RunSpec> {
        ensure!(
            self.model.is_dir(),
            "the model folder {} does not exist",
            self.model.display()
        );
        let training_file = file(&self.data)?;
        let validation_file = self.validation.as_deref().map(file).transpose()?;
        let mut named = vec![
            ("model", name(&self.model)?),
            ("training_file", training_file.id.clone()),
        ];
        named.extend(
            validation_file
                .iter()
                .map(|file| ("validation_file", file.id.clone())),
        );
        let body = self.body(named)?;
        let spec = JobSpec::parse(&body)
            .map_err(|error| report::failed(TrainError::from(error), None))
            .with_context(|| format!("in {}", self.spec.display()))?;
        Ok(RunSpec {
            job_id: self.out.as_deref().map_or(Ok(String::new()), name)?,
            attempt: 1,
            spec,
            model_dir: self.model.clone(),
            start_from: None,
            training_file,
            validation_file,
            run_dir: PathBuf::new(),
            device: devices::of_workers(None)
                .first()
                .copied()
                .unwrap_or(Device::Cpu),
            threads,
            resume_from: None,
            pause_at_step: None,
        })
    }

    /// The body that would create this job at a server: the specification and what the flags name.
    fn body(&self, named: Vec<(&str, String)>) -> Result<Value> {
        let shown = self.spec.display();
        let text = fs::read(&self.spec).with_context(|| format!("cannot read {shown}"))?;
        let mut body: Value =
            serde_json::from_slice(&text).with_context(|| format!("{shown} is not JSON"))?;
        let object = body
            .as_object_mut()
            .with_context(|| format!("{shown} must hold a JSON object"))?;
        for key in ["model", "training_file", "validation_file"] {
            ensure!(
                !object.contains_key(key),
                "{shown}: '{key}' is named on the command line, by --model, --data and --validation; leave it out"
            );
        }
        object.extend(
            named
                .into_iter()
                .map(|(key, name)| (key.to_owned(), name.into())),
        );
        Ok(body)
    }
}

fn file(path: &Path) -> Result<DataFile> {
    let name = name(path)?;
    Ok(DataFile {
        id: name.clone(),
        filename: name,
        path: path.to_owned(),
        sha256: sha256_of(path)?,
    })
}

/// The last part of a path, also of `.`.
fn name(path: &Path) -> Result<String> {
    let whole = path::absolute(path).with_context(|| format!("{:?} is no path", path))?;
    let name = whole
        .file_name()
        .with_context(|| format!("{} has no name of its own", path.display()))?;
    Ok(name.to_string_lossy().into_owned())
}
