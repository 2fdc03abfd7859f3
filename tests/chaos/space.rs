//! F7: the disk of the data directory is full for a while.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use taper_tests::server::{Folders, MODEL};
use tokio::time::sleep;

use crate::{
    check::{Passed, Size},
    clients::{JOBS, fulfil},
    disk::{self, Disk},
    promises::{self, Allowed},
    specs::{self, Kind, References, wishes},
    world::World,
};

const MEGABYTES: u64 = 64;

/// Somebody fills the disk while a job trains, and frees it again.
pub(crate) async fn full_disk(_: Size) -> Result<Passed> {
    if let Some(reason) = disk::missing().await {
        return Ok(Passed::Skipped(reason));
    }
    let references = References::make().await?;
    let disk = Disk::small(MEGABYTES).await?;
    let mut world = World::within(Folders::at(&disk.root())?, disk.beside()).await?;
    let mut command = world.folders.command()?;
    command.args(["--min-free-mib", "8"]);
    world.start_as(command).await?;
    // Not in the history, since it is deleted on the way.
    let file = world
        .site
        .client
        .upload("other.jsonl", specs::rows())
        .await?;
    let wishes = wishes(&[Kind::Lora, Kind::Best]);
    let clients = tokio::spawn(fulfil(world.site.clone(), wishes.clone(), &[]));
    sleep(Duration::from_millis(700)).await;
    let ballast = disk.root().join("ballast");
    fill(&ballast)?;
    world.note("full")?;
    sleep(Duration::from_secs(3)).await;
    let told = while_full(&world, &file).await?;
    fs::remove_file(&ballast)?;
    world.note("free")?;
    clients.await?.context("after there was space again")?;
    promises::assert(&world, &wishes, &references, Allowed::NOTHING).await?;
    let left = leaves_and_comes_back(&world, &ballast).await?;
    let started = start_without_space(&mut world, &ballast).await?;
    Ok(Passed::new(format!(
        "while full: {told}; afterwards, without a restart, the jobs have the same bytes; {left}; {started}"
    )))
}

/// A run that finds the disk full leaves its worker with a checkpoint, waits in the queue and goes on from there by itself.
async fn leaves_and_comes_back(world: &World, ballast: &Path) -> Result<String> {
    let client = world.direct()?;
    // The server may not have seen yet that there is space again.
    let file = world.site.upload("long.jsonl", specs::rows()).await?;
    let endless = json!({"training": {"num_train_epochs": 10_000, "save_steps": 1_000_000}});
    let job = world.site.submit("long", &file, endless).await?;
    let at = format!("{JOBS}/{job}");
    client.wait_for_step(&job, 2).await?;
    fill(ballast)?;
    let waiting = client.wait(&job, "queued").await?;
    let checkpoints = client.get(&format!("{at}/checkpoints")).await?;
    let kept = checkpoints["data"][0]["step_number"].as_u64();
    let kept = kept.context("the run has left its worker without a checkpoint")?;
    let events = client.get(&format!("{at}/events?limit=100")).await?;
    let told = events["data"].as_array().into_iter().flatten();
    let mut messages = told.filter_map(|event| event["message"].as_str());
    ensure!(
        messages.any(|message| message.starts_with("There is no space")),
        "P10: nothing says why the job waits: {events}"
    );
    fs::remove_file(ballast)?;
    client.wait_for_step(&job, kept + 1).await?;
    let again = client.job(&job).await?;
    ensure!(
        again["attempt"].as_u64() > waiting["attempt"].as_u64(),
        "the job has not left its worker: {waiting}, then {again}"
    );
    client
        .json(client.request(Method::POST, &format!("{at}/cancel")))
        .await?;
    Ok(format!(
        "a run left its worker with a checkpoint of step {kept}, waited in the queue and went on by itself"
    ))
}

/// A server starts on a disk on which nothing more fits.
async fn start_without_space(world: &mut World, ballast: &Path) -> Result<String> {
    world.terminate().await?;
    fill(ballast)?;
    let mut command = world.folders.command()?;
    command.args(["--min-free-mib", "8"]);
    let started = world.start_as(command).await;
    started.context("P10: the server does not start on a full disk")?;
    world.direct()?.get(JOBS).await?;
    fs::remove_file(ballast)?;
    Ok("a server started on the full disk".to_owned())
}

/// Writes until nothing more fits.
fn fill(path: &Path) -> Result<()> {
    use std::io::Write;
    let mut file = fs::File::create(path)?;
    let block = vec![1; 64 << 10];
    while file.write_all(&block).is_ok() {}
    Ok(())
}

/// Reading, cancelling and deleting work; new things are refused so that no client tries again.
async fn while_full(world: &World, file: &str) -> Result<String> {
    let client = world.direct()?;
    let jobs = client
        .get("/v1/fine_tuning/jobs")
        .await
        .context("a list while the disk is full")?;
    let states: Vec<&Value> = jobs["data"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|job| &job["status"])
        .collect();
    let mut body = Kind::Short.body();
    body["model"] = MODEL.into();
    body["training_file"] = file.into();
    let answer = client
        .request(Method::POST, "/v1/fine_tuning/jobs")
        .json(&body)
        .send()
        .await?;
    let (status, again) = (
        answer.status(),
        answer.headers().get("x-should-retry").cloned(),
    );
    ensure!(
        status == 507 && again.as_ref().is_some_and(|value| value == "false"),
        "P10: a submission while the disk is full was answered with {status}, x-should-retry {again:?}"
    );
    let delete = client.request(Method::DELETE, &format!("/v1/files/{file}"));
    let deleted = delete.send().await?.status();
    ensure!(
        deleted.is_success(),
        "P10: a file cannot be deleted while the disk is full: {deleted}"
    );
    Ok(format!(
        "jobs {states:?}, a submission {status}, a deletion {deleted}"
    ))
}
