//! The store against a real database in a temporary directory.

#![cfg(test)]

mod backup;
mod events;
mod experiments;
mod files;
mod jobs;
mod keys;
mod lifetime;
mod model;
mod startup;

use std::path::{Path, PathBuf};

use serde_json::json;
use taper_core::{
    CheckpointFiles, JobSpec, JobState, Level, Metrics, NewEvent, Project, RunEvent, RunSpec,
};
use taper_store::{Change, FileRecord, Job, NewFile, NewUpload, ObjectKey, Store, Transition};
use tempfile::TempDir;

/// A store in a directory of its own.
async fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    (dir, store)
}

/// Where the bytes of a file lie.
async fn file_path(store: &Store, id: &str) -> PathBuf {
    store.local(&ObjectKey::file(id)).await.unwrap()
}

/// A checkpoint of a job's run that lies in its folder, empty, and supersedes none.
fn checkpoint(store: &Store, job: &str, step: u64) -> CheckpointFiles {
    let dir = store.run_dir(job).join("checkpoints");
    let dir = dir.join(RunSpec::checkpoint_name(step));
    std::fs::create_dir_all(&dir).unwrap();
    CheckpointFiles {
        step,
        dir,
        metrics: Metrics::new(),
        superseded: Vec::new(),
    }
}

/// An upload in parts that is to have so many bytes.
fn new_upload(project: Project, bytes: u64) -> NewUpload {
    NewUpload {
        project,
        bytes,
        filename: "rows.jsonl".to_owned(),
        purpose: "fine-tune".to_owned(),
        expires_after: None,
    }
}

/// Removes whatever lies at `path`.
fn remove(path: &Path) {
    if path.is_dir() {
        std::fs::remove_dir_all(path).unwrap();
    } else {
        std::fs::remove_file(path).unwrap();
    }
}

async fn upload(store: &Store, bytes: &[u8]) -> FileRecord {
    let mut upload = store.begin_upload().await.unwrap();
    for chunk in bytes.chunks(7) {
        upload.write(chunk).await.unwrap();
    }
    upload
        .finish(NewFile::new("rows.jsonl", "fine-tune"))
        .await
        .unwrap()
}

fn spec(file: &FileRecord) -> JobSpec {
    let body = json!({"model": "base", "training_file": file.id, "metadata": {"team": "a"}});
    JobSpec::parse(&body).unwrap()
}

async fn create(store: &Store) -> Job {
    let file = upload(store, b"{}").await;
    store.create_job(spec(&file)).await.unwrap()
}

fn to(job: &Job, from: &'static [JobState], to: JobState) -> Transition {
    Transition {
        job: job.id.clone(),
        from,
        attempt: None,
        to,
        level: Level::Info,
        message: format!("now {to}"),
        change: Change::default(),
    }
}

async fn enqueue(store: &Store) -> Job {
    let job = create(store).await;
    let transition = to(&job, &[JobState::ValidatingFiles], JobState::Queued);
    store.transition(transition).await.unwrap().unwrap()
}

async fn run(store: &Store) -> Job {
    let job = enqueue(store).await;
    let claimed = store.claim().await.unwrap().unwrap();
    assert_eq!(claimed.id, job.id);
    claimed
}

fn step(step: u64, loss: f64) -> NewEvent {
    let metrics = Metrics::from([
        ("step", step as f64),
        ("total_steps", 100.0),
        ("train_loss", loss),
    ]);
    RunEvent::Step(metrics).into()
}
