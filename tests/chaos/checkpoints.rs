//! F28, F29: checkpoints that are truncated, spoilt, swapped, gone or of another job.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    check::{Passed, Progress, Size},
    clients::fulfil,
    promises::{self, Allowed},
    specs::{Kind, References, wishes},
    world::{Site, World},
};

/// What is done to a file of a checkpoint.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Truncated,
    Flipped,
    Missing,
    /// The file of the checkpoint before in its place.
    Older,
    Empty,
}

/// The newest checkpoint is harmed, file by file: an older one takes its place, and the result is the same.
pub(crate) async fn harmed(size: Size) -> Result<Passed> {
    let references = References::make().await?;
    let harms: &[Harm] = match size {
        Size::Reduced => &[Harm::Flipped, Harm::Older],
        Size::Full(_) => &[
            Harm::Truncated,
            Harm::Flipped,
            Harm::Missing,
            Harm::Older,
            Harm::Empty,
        ],
    };
    let parts = parts().await?;
    let mut progress = Progress::new("harmed files", (harms.len() * parts.len()) as u64);
    for part in &parts {
        for harm in harms {
            let mut world = World::running().await?;
            let told = one(&mut world, part, *harm, &references).await;
            told.map_err(|error| {
                error.context(format!(
                    "{part} {harm:?}; everything lies in {}",
                    world.keep()
                ))
            })?;
            progress.step();
        }
    }
    Ok(Passed::new(format!(
        "{harms:?} of each of {parts:?}: an older checkpoint was used, with the same bytes in the end"
    )))
}

/// Every checkpoint is harmed: the job must not begin again as if nothing had been.
pub(crate) async fn all_harmed(_: Size) -> Result<Passed> {
    let mut world = World::running().await?;
    let wishes = wishes(&[Kind::Lora]);
    let clients = tokio::spawn(fulfil(world.site.clone(), wishes.clone(), &[]));
    let job = killed_with_checkpoints(&mut world, 2).await?;
    for dir in checkpoints(&world, &job)? {
        harm(&dir.join("parameters.safetensors"), Harm::Flipped, &dir)?;
    }
    world.start().await?;
    clients.await??;
    let job = world.site.client.job(&job).await?;
    ensure!(
        job["status"] == "failed" && job["error"]["code"] == "checkpoint_corrupt",
        "with every checkpoint spoilt the job is {} with {}",
        job["status"],
        job["error"]
    );
    Ok(Passed::new(format!("failed: {}", job["error"]["message"])))
}

/// F29: the checkpoint of another job lies in the place of this one's.
pub(crate) async fn foreign(_: Size) -> Result<Passed> {
    let references = References::make().await?;
    let mut other = World::running().await?;
    let others = tokio::spawn(fulfil(other.site.clone(), wishes(&[Kind::Best]), &[]));
    let stranger = killed_with_checkpoints(&mut other, 2).await?;
    let strange = checkpoints(&other, &stranger)?
        .pop()
        .context("no checkpoint")?;
    others.abort();

    let mut world = World::running().await?;
    let wishes = wishes(&[Kind::Lora]);
    let clients = tokio::spawn(fulfil(world.site.clone(), wishes.clone(), &[]));
    let job = killed_with_checkpoints(&mut world, 2).await?;
    let newest = checkpoints(&world, &job)?.pop().context("no checkpoint")?;
    for file in files(&strange)? {
        let name = file.file_name().context("no name")?;
        fs::copy(&file, newest.join(name))?;
    }
    world.start().await?;
    clients.await??;
    promises::assert(
        &world,
        &wishes,
        &references,
        Allowed(&["checkpoint_corrupt"]),
    )
    .await?;
    let job = world.site.client.job(&job).await?;
    Ok(Passed::new(format!(
        "not taken; the job has {}",
        job["status"]
    )))
}

async fn one(world: &mut World, part: &str, how: Harm, references: &References) -> Result<()> {
    let wishes = wishes(&[Kind::Lora]);
    let clients = tokio::spawn(fulfil(world.site.clone(), wishes.clone(), &[]));
    let job = killed_with_checkpoints(world, 3).await?;
    let mut dirs = checkpoints(world, &job)?;
    let newest = dirs.pop().context("no checkpoint")?;
    let before = dirs.pop().context("no older checkpoint")?;
    harm(&newest.join(part), how, &before)?;
    world.start().await?;
    clients.await??;
    promises::assert(world, &wishes, references, Allowed::NOTHING).await?;
    went_on(&world.site, &job, &newest).await
}

/// The last run has not begun at the first step, and the log says why it has not begun at the `harmed` checkpoint, if that was known.
async fn went_on(site: &Site, job: &str, harmed: &Path) -> Result<()> {
    let events = site.client.events(job).await?;
    let data: Vec<&Value> = events.iter().map(|(_, event)| &event["data"]).collect();
    let start = data.iter().rposition(|data| data["status"] == "running");
    let last_run = &data[start.context("it never ran")?..];
    let first_step = last_run.iter().find_map(|data| data["step"].as_u64());
    ensure!(
        first_step > Some(1),
        "the job has begun again at step {first_step:?}"
    );
    let name = harmed.file_name().and_then(|name| name.to_str());
    let step: u64 = name
        .unwrap_or_default()
        .trim_start_matches("step-")
        .parse()?;
    let made = format!("Checkpoint created at step {step}");
    let first_run = &events[..start.unwrap_or_default()];
    if !first_run
        .iter()
        .any(|(_, event)| event["message"] == made.as_str())
    {
        // The server died between the rename and the row: nobody was told of it, so nobody misses it.
        return Ok(());
    }
    let warned = events.iter().any(|(_, event)| {
        let text = event["message"].as_str().unwrap_or_default();
        event["level"] == "warn" && text.to_lowercase().contains("checkpoint")
    });
    ensure!(warned, "no event tells that a checkpoint was passed over");
    Ok(())
}

/// Waits until the job has so many checkpoints, then kills the server. Returns the job.
async fn killed_with_checkpoints(world: &mut World, least: usize) -> Result<String> {
    loop {
        let jobs = world.site.get("/v1/fine_tuning/jobs").await?;
        let Some(job) = jobs["data"][0]["id"].as_str().map(str::to_owned) else {
            continue;
        };
        let list = world
            .site
            .get(&format!("/v1/fine_tuning/jobs/{job}/checkpoints"))
            .await?;
        if list["data"]
            .as_array()
            .is_some_and(|list| list.len() >= least)
        {
            world.kill().await?;
            return Ok(job);
        }
        let ended = &jobs["data"][0]["finished_at"];
        ensure!(
            ended.is_null(),
            "the job was over before it could be disturbed"
        );
    }
}

/// The folders of a job's checkpoints, oldest first.
fn checkpoints(world: &World, job: &str) -> Result<Vec<PathBuf>> {
    let mut dirs = files(
        &world
            .folders
            .data()
            .join("jobs")
            .join(job)
            .join("checkpoints"),
    )?;
    dirs.retain(|dir| dir.extension().is_none());
    dirs.sort();
    Ok(dirs)
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("no {}", dir.display()))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// Names of the files of a checkpoint.
async fn parts() -> Result<Vec<String>> {
    let mut world = World::running().await?;
    let clients = tokio::spawn(fulfil(world.site.clone(), wishes(&[Kind::Lora]), &[]));
    let job = killed_with_checkpoints(&mut world, 2).await?;
    clients.abort();
    let newest = checkpoints(&world, &job)?.pop().context("no checkpoint")?;
    let mut names: Vec<String> = files(&newest)?
        .iter()
        .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    Ok(names)
}

fn harm(file: &Path, how: Harm, before: &Path) -> Result<()> {
    let mut bytes = fs::read(file)?;
    match how {
        Harm::Truncated => bytes.truncate(bytes.len() / 2),
        Harm::Flipped => {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x10;
        }
        Harm::Missing => return Ok(fs::remove_file(file)?),
        Harm::Older => bytes = fs::read(before.join(file.file_name().context("no name")?))?,
        Harm::Empty => bytes.clear(),
    }
    Ok(fs::write(file, bytes)?)
}
