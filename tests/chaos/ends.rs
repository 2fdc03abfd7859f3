//! F15, F18, F19, F37: jobs that kill their server, runs that go wild or hang, and cancels that race everything.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use futures_util::future::try_join_all;
use rustix::process::Signal;
use serde_json::{Value, json};
use taper_tests::model::write_tiny_bert;
use tokio::time::{sleep, timeout};

use crate::{
    check::{Passed, Size},
    inject::{self, Fault},
    promises::{self, Allowed},
    specs::{self, Kind, References},
    world::World,
};

/// F15: the server dies again and again under the same job; the third time the job fails, and the next one runs.
pub(crate) async fn crash_loop(_: Size) -> Result<Passed> {
    let mut world = World::running().await?;
    let file = world.site.upload("train.jsonl", specs::rows()).await?;
    let endless = json!({"training": {"num_train_epochs": 10_000, "save_steps": 1_000_000}});
    let poison = world.site.submit("poison", &file, endless).await?;
    let next = world.site.submit("next", &file, Kind::Short.body()).await?;
    // As of an abort, an instruction that the processor has not, and the kernel's killer of processes that take too much memory.
    let deaths = [Signal::ABORT, Signal::ILL, Signal::KILL];
    for signal in deaths {
        world.direct()?.wait_for_step(&poison, 1).await?;
        world.signal(signal)?;
        world.take()?.ended().await?;
        world.start().await?;
    }
    let job = world.site.poll(&poison).await?;
    ensure!(
        job["status"] == "failed" && job["error"]["code"] == "crashed",
        "P3: after three deaths the job is {} with {}",
        job["status"],
        job["error"]
    );
    world.direct()?.wait(&next, "succeeded").await?;
    Ok(Passed::new(format!(
        "after {deaths:?}: {}; the next job has succeeded",
        job["error"]["message"]
    )))
}

/// F18: weights whose products leave the range of numbers end the job at its first step.
pub(crate) async fn not_finite(_: Size) -> Result<Passed> {
    let world = World::running().await?;
    let folder = world.folders.models().join("acme/wild");
    write_tiny_bert(&folder)?;
    let weights = folder.join("model.safetensors");
    let mut bytes = fs::read(&weights)?;
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into()?) as usize;
    let (start, end) = (header, (header + 2048).min(bytes.len()));
    for value in bytes[start..end].chunks_exact_mut(4) {
        value.copy_from_slice(&3e38f32.to_le_bytes());
    }
    fs::write(&weights, bytes)?;
    let file = world.site.upload("train.jsonl", specs::rows()).await?;
    let body = json!({"model": "acme/wild", "training_file": file, "tuning": {"type": "full"}});
    let (status, job) = world.direct()?.create(&body).await?;
    ensure!(status == 200, "{status}: {job}");
    let job = world.site.poll(id(&job)?).await?;
    let events = format!("/v1/fine_tuning/jobs/{}/events", id(&job)?);
    world
        .direct()?
        .get(&events)
        .await
        .context("the events of a run that was not finite")?;
    ensure!(
        job["status"] == "failed" && job["error"]["code"] == "non_finite",
        "the job is {} with {}",
        job["status"],
        job["error"]
    );
    Ok(Passed::new(format!("failed: {}", job["error"]["message"])))
}

/// F16: a job that can never fit is refused with what it needs, and what would make it fit.
pub(crate) async fn does_not_fit(_: Size) -> Result<Passed> {
    let mut world = World::new().await?;
    let mut command = world.folders.command()?;
    command.args(["--memory-limit-mib", "1"]);
    world.start_as(command).await?;
    let file = world.site.upload("train.jsonl", specs::rows()).await?;
    let mut body = Kind::Full.body();
    body["model"] = taper_tests::server::MODEL.into();
    body["training_file"] = file.into();
    body["training"]["per_device_train_batch_size"] = 256.into();
    let (status, answer) = world.direct()?.create(&body).await?;
    let error = &answer["error"];
    let message = error["message"].as_str().unwrap_or_default();
    let told = ["needs", "weights", "optimizer", "activations"]
        .iter()
        .all(|word| message.contains(word));
    ensure!(
        status == 400 && error["code"] == "insufficient_memory" && told,
        "{status}: {answer}"
    );
    Ok(Passed::new(format!("400: {message}")))
}

/// F19: a step takes for ever, since the disk does not answer. The run is abandoned, the next job gets a worker that works, and so does a
/// retry; the abandoned run wakes after it and changes nothing.
pub(crate) async fn hang(_: Size) -> Result<Passed> {
    if let Some(reason) = inject::missing().await {
        return Ok(Passed::Skipped(reason));
    }
    let references = References::make().await?;
    let mut world = World::new().await?;
    // The folder of the last checkpoint but one: no other thread makes so many, not even that of the next job and the retry.
    let words = inject::wrapper("mkdir", Fault::Delay(30), 19, false);
    let mut command = world.folders.command_under(&words)?;
    command.args(["--stuck-after", "4"]);
    world.start_as(command).await?;
    let file = world.site.upload("train.jsonl", specs::rows()).await?;
    let wishes = BTreeMap::from([
        ("stuck".to_owned(), Kind::Lora),
        ("next".to_owned(), Kind::Short),
    ]);
    let submit = async |key: &str| world.site.submit(key, &file, wishes[key].body()).await;
    let (stuck, next) = (submit("stuck").await?, submit("next").await?);
    let began = Instant::now();
    let job = world.site.poll(&stuck).await?;
    let seconds = began.elapsed().as_secs_f64();
    ensure!(
        job["status"] == "failed" && job["error"]["code"] == "stuck",
        "the job is {} with {}",
        job["status"],
        job["error"]
    );
    world.site.retry(&stuck).await?;
    for job in [&next, &stuck] {
        let job = world.site.poll(job).await?;
        ensure!(job["status"] == "succeeded", "another job has ended: {job}");
    }
    let hung = given_up(&world).await?;
    ensure!(hung == 1, "{hung} runs hang when the retry has ended");
    let woken = async {
        while given_up(&world).await? > 0 {
            sleep(Duration::from_millis(200)).await;
        }
        anyhow::Ok(())
    };
    timeout(Duration::from_secs(60), woken)
        .await
        .context("the run that was given up does not wake")??;
    promises::assert(&world, &wishes, &references, Allowed::NOTHING).await?;
    Ok(Passed::new(format!(
        "after {seconds:.0} s failed: {}; the next job and a retry have succeeded meanwhile, and the run that woke has changed nothing",
        job["error"]["message"]
    )))
}

/// Abandoned runs that have not ended.
async fn given_up(world: &World) -> Result<u32> {
    let figures = world.direct()?.bytes("/metrics").await?;
    let figures = String::from_utf8(figures)?;
    let mut lines = figures.lines();
    let value = lines.find_map(|line| line.strip_prefix("taper_runs_given_up "));
    Ok(value.context("no such figure")?.parse()?)
}

fn id(job: &Value) -> Result<&str> {
    job["id"].as_str().context("no id")
}

/// F37: every job is cancelled twice at once, at any moment of its life.
pub(crate) async fn cancels_at_any_time(size: Size) -> Result<Passed> {
    let count = match size {
        Size::Reduced => 30,
        Size::Full(_) => 300,
    };
    let references = References::make().await?;
    let world = World::running().await?;
    let file = world.site.upload("train.jsonl", specs::rows()).await?;
    let mut random = Rng::with_seed(37);
    let mut wishes = BTreeMap::new();
    let mut ends = BTreeMap::<String, u32>::new();
    for number in 0..count {
        let key = format!("race-{number}");
        wishes.insert(key.clone(), Kind::Short);
        let job = world.site.submit(&key, &file, Kind::Short.body()).await?;
        let after = Duration::from_millis(random.u64(0..450));
        let cancel = || async {
            sleep(after).await;
            world.site.cancel(&job).await
        };
        let watcher = format!("watcher {key}");
        let (job, _, ()) = tokio::try_join!(
            world.site.poll(&job),
            try_join_all([cancel(), cancel()]),
            world.site.watch(&watcher, &job)
        )?;
        *ends.entry(job["status"].to_string()).or_default() += 1;
    }
    promises::assert(&world, &wishes, &references, Allowed::NOTHING).await?;
    Ok(Passed::new(format!(
        "{count} jobs, each with two cancels at once, have ended as {ends:?}"
    )))
}
