//! What an administrator does: backups, checks, jobs in processes of their own.

use std::process::Output;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    model::jsonl,
    server::{Folders, Server, binary},
};

fn job(epochs: u64) -> Value {
    json!({"seed": 7, "tuning": {"type": "lora"}, "training": {"num_train_epochs": epochs, "logging_steps": 20, "eval_split": 0.1}})
}

async fn taper(arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(binary()?).args(arguments).output().await?)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn weights(server: &Server, id: &str) -> Result<Vec<u8>> {
    let path = format!("/v1/fine_tuning/jobs/{id}/artifacts/adapter/adapter_model.safetensors");
    server.client.bytes(&path).await
}

#[tokio::test]
async fn a_backup_of_a_running_server_can_be_gone_on_with() -> Result<()> {
    let folders = Folders::new()?;
    let server = folders.serve().await?;
    let train = server.client.upload("train.jsonl", jsonl(400)).await?;
    let done = server.client.submit(&train, job(1)).await?;
    server.client.wait(&done, "succeeded").await?;
    let running = server.client.submit(&train, job(200)).await?;
    server.client.wait_for_step(&running, 60).await?;

    let data = folders.data().display().to_string();
    let backup = folders.root().join("backup").display().to_string();
    let copied = taper(&["backup", "--data-dir", &data, "--to", &backup]).await?;
    assert!(copied.status.success(), "{}", text(&copied.stderr));
    assert!(
        text(&copied.stdout).contains("2 jobs"),
        "{}",
        text(&copied.stdout)
    );
    let wanted = weights(&server, &done).await?;
    server.kill().await?;

    std::fs::rename(folders.data(), folders.root().join("lost"))?;
    let restored = taper(&["restore", "--from", &backup, "--data-dir", &data]).await?;
    assert!(restored.status.success(), "{}", text(&restored.stderr));
    let server = folders.serve().await?;
    assert_eq!(weights(&server, &done).await?, wanted);
    let job = server.client.wait(&running, "running").await?;
    assert_eq!(job["attempt"], 2);
    Ok(())
}

#[tokio::test]
async fn a_job_in_a_process_of_its_own_makes_the_same_bytes() -> Result<()> {
    let folders = Folders::new()?;
    let server = folders.serve().await?;
    let train = server.client.upload("train.jsonl", jsonl(200)).await?;
    let inside = server.client.submit(&train, job(4)).await?;
    server.client.wait(&inside, "succeeded").await?;
    let wanted = weights(&server, &inside).await?;
    assert!(server.terminate().await?.success());

    let mut command = folders.command()?;
    command.arg("--isolate");
    let server = Server::start(command).await?;
    let apart = server.client.submit(&train, job(4)).await?;
    server.client.wait(&apart, "succeeded").await?;
    assert_eq!(weights(&server, &apart).await?, wanted);
    Ok(())
}

#[tokio::test]
async fn a_killed_run_fails_alone() -> Result<()> {
    let folders = Folders::new()?;
    let mut command = folders.command()?;
    command.arg("--isolate");
    let server = Server::start(command).await?;
    let train = server.client.upload("train.jsonl", jsonl(400)).await?;
    let id = server.client.submit(&train, job(200)).await?;
    server.client.wait_for_step(&id, 40).await?;
    let child = child_of(server.pid()?)?;
    let killed = Command::new("kill")
        .args(["-KILL", &child])
        .status()
        .await?;
    assert!(killed.success());
    let failed = server.client.wait(&id, "failed").await?;
    assert_eq!(failed["error"]["code"], "oom_killed");
    let next = server.client.submit(&train, job(1)).await?;
    server.client.wait(&next, "succeeded").await?;
    Ok(())
}

/// The one process that `parent` has started.
fn child_of(parent: u32) -> Result<String> {
    let mut children = String::new();
    for task in std::fs::read_dir(format!("/proc/{parent}/task"))? {
        children += &std::fs::read_to_string(task?.path().join("children"))?;
    }
    let child = children.split_whitespace().next();
    Ok(child.context("the server has no child")?.to_owned())
}

#[tokio::test]
async fn the_doctor_tells_what_is_well_and_what_is_not() -> Result<()> {
    let folders = Folders::new()?;
    std::fs::create_dir_all(folders.models().join("broken"))?;
    std::fs::write(folders.models().join("broken/config.json"), "{}")?;
    let (data, models) = (
        folders.data().display().to_string(),
        folders.models().display().to_string(),
    );
    let flags = ["doctor", "--data-dir", &data, "--models-dir", &models];
    let free = [&flags[..], &["--listen", "127.0.0.1:0"]].concat();
    let report = taper(&free).await?;
    let said = text(&report.stdout);
    assert!(report.status.success(), "{said}");
    assert!(
        said.contains("ok    model          acme/tiny-bert"),
        "{said}"
    );
    assert!(
        said.contains("note  model          broken cannot be used"),
        "{said}"
    );

    let server = folders.serve().await?;
    let taken = [&flags[..], &["--listen", &server.client.addr]].concat();
    let report = taper(&taken).await?;
    let said = text(&report.stdout);
    assert_eq!(report.status.code(), Some(1), "{said}");
    assert!(said.contains("FAIL  address"), "{said}");
    assert!(said.contains("in use by a running server"), "{said}");
    Ok(())
}
