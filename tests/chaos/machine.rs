//! F25, F30 to F33: clocks that jump, links in the data directory, a machine without files, threads or writing.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use reqwest::{Method, StatusCode};
use taper_tests::server::{Folders, Server};
use tokio::{net::TcpStream, time::sleep};

use crate::{
    check::{Passed, Size},
    clients::fulfil,
    disk::{self, Disk},
    promises::{self, Allowed},
    specs::{self, Kind, References, wishes},
    world::World,
};

/// F25: the clock jumps a day ahead and two days back while a job trains.
pub(crate) async fn clock_jumps(_: Size) -> Result<Passed> {
    let Some(library) = faketime() else {
        return Ok(Passed::Skipped("libfaketime is missing".to_owned()));
    };
    let references = References::make().await?;
    let mut world = World::new().await?;
    let clock = world.folders.root().join("clock");
    fs::write(&clock, "+0")?;
    let mut command = world.folders.command()?;
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", &clock)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    world.start_as(command).await?;
    let wishes = wishes(&[Kind::Lora, Kind::Best, Kind::Short]);
    let clients = tokio::spawn(fulfil(world.site.clone(), wishes.clone(), &[]));
    for jump in ["+1d", "-1d", "+13y", "+0"] {
        sleep(Duration::from_millis(400)).await;
        fs::write(&clock, jump)?;
        world.note(jump)?;
    }
    clients.await??;
    promises::assert(&world, &wishes, &references, Allowed::NOTHING).await?;
    ensure!(!world.log()?.contains("panicked"), "a panic");
    Ok(Passed::new(
        "a day ahead, a day back, into the year 2039 and back: same bytes, whole streams",
    ))
}

/// The library of faketime for programs with threads, where Linux distributions put it.
fn faketime() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?;
    folders
        .filter_map(|entry| Some(entry.ok()?.path().join("faketime/libfaketimeMT.so.1")))
        .find(|path| path.is_file())
}

/// F30: links, pipes and foreign files where uploads lie are not followed.
pub(crate) async fn links(_: Size) -> Result<Passed> {
    let mut world = World::running().await?;
    let file = world.site.upload("train.jsonl", specs::rows()).await?;
    let path = world.folders.data().join("files").join(&file);
    let secret = world.folders.root().join("secret");
    fs::write(&secret, "secret\n")?;
    fs::remove_file(&path)?;
    symlink(&secret, &path)?;
    let content = format!("/v1/files/{file}/content");
    let request =
        |world: &World| Ok::<_, anyhow::Error>(world.direct()?.request(Method::GET, &content));
    let answer = request(&world)?.send().await?;
    let status = answer.status();
    ensure!(
        status.is_client_error() || status.is_server_error(),
        "P9: a link is followed: {status}"
    );
    ensure!(
        !answer.text().await?.contains("secret"),
        "P9: the answer holds what the link leads to"
    );
    let mut body = Kind::Short.body();
    body["model"] = taper_tests::server::MODEL.into();
    body["training_file"] = file.as_str().into();
    let (status, answer) = world.direct()?.create(&body).await?;
    ensure!(
        status != StatusCode::OK || answer["id"].is_string(),
        "{status}: {answer}"
    );
    ensure!(
        !answer.to_string().contains("secret\\n"),
        "P9: the refusal tells what the link leads to"
    );
    world.kill().await?;
    let told = match world.folders.serve().await {
        Ok(server) => {
            server.kill().await?;
            "the next server starts"
        }
        Err(_) => {
            world.refused().await?;
            "the next server refuses to start"
        }
    };
    ensure!(
        fs::read_to_string(&secret)? == "secret\n",
        "P9: the file outside was changed"
    );
    Ok(Passed::new(format!(
        "not followed ({status} for a job); {told}; the file outside is untouched"
    )))
}

/// F31: more connections than the process may have open.
pub(crate) async fn no_files_left(_: Size) -> Result<Passed> {
    let mut world = World::new().await?;
    let command = world.folders.command_under(&["prlimit", "--nofile=64"])?;
    world.start_as(command).await?;
    let pid = world.server()?.pid()?;
    let addr = world.direct()?.addr.clone();
    let mut idle = Vec::new();
    for _ in 0..150 {
        idle.push(TcpStream::connect(&addr).await?);
    }
    let before = processor_seconds(pid)?;
    sleep(Duration::from_secs(3)).await;
    let used = processor_seconds(pid)? - before;
    ensure!(
        used < 0.6,
        "the server spins: {used:.1} s of processor time in 3 s"
    );
    drop(idle);
    let began = Instant::now();
    world.site.get("/v1/models").await?;
    world.site.upload("train.jsonl", specs::rows()).await?;
    Ok(Passed::new(format!(
        "150 connections of 64: {used:.2} s of processor time in 3 s; served again {:.1} s after they were gone",
        began.elapsed().as_secs_f64()
    )))
}

fn processor_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .context("no stat")?
        .split_whitespace()
        .collect();
    let ticks = |place: usize| fields.get(place).and_then(|text| text.parse::<f64>().ok());
    // User and system time; a second has 100 ticks wherever Linux runs today.
    Ok((ticks(11).context("no time")? + ticks(12).context("no time")?) / 100.0)
}

/// F32: no more threads than a few: an error at the start, or a server that works.
pub(crate) async fn no_threads_left(_: Size) -> Result<Passed> {
    let Ok(group) = Group::new(6) else {
        return Ok(Passed::Skipped(
            "no control group for processes can be made".to_owned(),
        ));
    };
    let folders = Folders::new()?;
    let enter = format!(
        "echo $$ > {} && exec \"$@\"",
        group.0.join("cgroup.procs").display()
    );
    let mut command = folders.command_under(&["sh", "-c", &enter, "sh"])?;
    command.kill_on_drop(true).stderr(Stdio::piped());
    let output = tokio::time::timeout(Duration::from_secs(20), command.output()).await;
    let output = output.context("a server with six threads neither ends nor says anything")??;
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or_default().to_owned();
    ensure!(!output.status.success(), "it ended with {}", output.status);
    ensure!(!said.contains("panicked"), "it panicked: {said}");
    Ok(Passed::new(format!("{}: {last}", output.status)))
}

/// A control group of so many processes and threads; it is removed when dropped.
struct Group(PathBuf);

impl Group {
    fn new(most: u32) -> Result<Self> {
        let name = format!("taper-chaos-{}", std::process::id());
        let root = Path::new("/sys/fs/cgroup");
        let v1 = root.join("pids");
        let dir = if v1.is_dir() { v1 } else { root.to_owned() }.join(name);
        fs::create_dir(&dir)?;
        let group = Self(dir);
        fs::write(group.0.join("pids.max"), most.to_string())?;
        Ok(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        drop(fs::remove_dir(&self.0));
    }
}

/// F33: the disk can only be read.
pub(crate) async fn read_only_disk(_: Size) -> Result<Passed> {
    if let Some(reason) = disk::missing().await {
        return Ok(Passed::Skipped(reason));
    }
    let disk = Disk::ext4(32).await?;
    let mut world = World::within(Folders::at(&disk.root())?, disk.beside()).await?;
    world.start().await?;
    fulfil(world.site.clone(), wishes(&[Kind::Short]), &[]).await?;
    world.terminate().await?;
    disk.remount("ro").await?;
    let refusal = world.refused().await?;
    disk.remount("rw").await?;
    let server: Server = world.folders.serve().await?;
    let jobs = server.client.get("/v1/fine_tuning/jobs").await?;
    ensure!(
        jobs["data"][0]["status"] == "succeeded",
        "the jobs are gone: {jobs}"
    );
    Ok(Passed::new(format!(
        "refused at the start: {refusal:?}; afterwards all is there"
    )))
}
