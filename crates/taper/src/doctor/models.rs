//! The models directory: each folder is looked at as it would be for a job.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
};

use serde_json::json;
use taper_core::{DataFile, Device, JobSpec, RunSpec, SpecError, Trainer};
use taper_engine::Engine;
use taper_scheduler::base_models;

use super::Finding;

const WHAT: &str = "model";
/// Two classes, so that every family can be asked for the task that all of them know.
const ROWS: &str = "{\"text\": \"a\", \"label\": \"x\"}\n{\"text\": \"b\", \"label\": \"y\"}\n";

/// Rows to look at a model with; they are gone with it.
struct Rows(PathBuf);

impl Rows {
    fn write() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("taper-doctor-{}.jsonl", process::id()));
        fs::write(&path, ROWS)?;
        Ok(Self(path))
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        // The folder for temporary files is emptied by the system anyway.
        let _ = fs::remove_file(&self.0);
    }
}

pub(super) fn examine(dir: &Path) -> Vec<Finding> {
    let listed = base_models(dir).and_then(|models| Ok((models, Rows::write()?)));
    match listed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            vec![none(format!(
                "the directory {} is not there",
                dir.display()
            ))]
        }
        Err(error) => vec![Finding::bad(
            "models",
            format!("{}: {error}", dir.display()),
        )],
        Ok((models, _)) if models.is_empty() => {
            let says = format!("no folder of {} holds a config.json", dir.display());
            vec![none(says)]
        }
        Ok((models, rows)) => {
            let inspect = |model: taper_scheduler::Model| inspect(dir, model.id, &rows);
            models.into_iter().map(inspect).collect()
        }
    }
}

fn none(why: String) -> Finding {
    Finding::doubtful("models", format!("{why}; no job can be created"))
}

fn inspect(dir: &Path, id: String, rows: &Rows) -> Finding {
    let run = match run(dir, &id, rows) {
        Ok(run) => run,
        Err(error) => return Finding::doubtful(WHAT, format!("{id} has no usable name: {error}")),
    };
    match Engine::new().inspect(&run) {
        Ok(_) => Finding::good(WHAT, id),
        Err(error) => Finding::doubtful(WHAT, format!("{id} cannot be used: {error}")),
    }
}

fn run(dir: &Path, id: &str, rows: &Rows) -> Result<RunSpec, SpecError> {
    let spec = JobSpec::parse(&json!({"model": id, "training_file": "rows"}))?;
    Ok(RunSpec {
        job_id: String::new(),
        attempt: 0,
        spec,
        model_dir: dir.join(id),
        start_from: None,
        training_file: DataFile {
            id: "rows".to_owned(),
            filename: "rows.jsonl".to_owned(),
            path: rows.0.clone(),
            sha256: String::new(),
        },
        validation_file: None,
        run_dir: PathBuf::new(),
        device: Device::Cpu,
        threads: 1,
        resume_from: None,
        pause_at_step: None,
    })
}
