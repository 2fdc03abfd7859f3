//! F4, F5, F6: the power goes. The server's data lie on an image of their own; the image is taken as it is on the disk, without what
//! the kernel had still to write, and the next server starts on that. With an fsync removed these tests must fail.

use std::{
    collections::BTreeMap,
    fs,
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;
use rustix::process::Signal;
use taper_tests::server::Folders;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::{
    check::{Part, Passed, Progress, Size},
    clients::{JOBS, fulfil},
    disk::{self, Disk, run},
    promises::{self, Allowed},
    specs::{Kind, References, wishes},
    world::World,
};

const MEGABYTES: u64 = 48;
/// Servers of one mutant that must lose something; each loses it at another moment, or not.
const TRIES: u64 = 6;

/// Fsyncs, each by a part of the path that it is for.
const MUTANTS: [(&str, &str); 4] = [
    ("of the database's log", "taper.db-wal"),
    ("of an upload", "/files/file-"),
    ("of a checkpoint's files", ".safetensors"),
    ("of everything", "/"),
];

/// Cuts at random moments: nothing that was promised is lost.
pub(crate) async fn cuts(size: Size) -> Result<Passed> {
    if let Some(reason) = disk::missing().await {
        return Ok(Passed::Skipped(reason));
    }
    let seeds = match size {
        Size::Reduced => Part::WHOLE.take(0..4),
        Size::Full(part) => part.take(0..40),
    };
    let cuts = seeds.len();
    let references = References::make().await?;
    let mut progress = Progress::new("power cuts", cuts as u64);
    for seed in seeds {
        cut(seed, &references, None)
            .await
            .with_context(|| format!("seed {seed}"))?;
        progress.step();
    }
    Ok(Passed::new(format!(
        "{cuts} power cuts, nothing promised was lost"
    )))
}

/// The same with an fsync removed: a test of these tests.
pub(crate) async fn mutants(size: Size) -> Result<Passed> {
    if let Some(reason) = disk::missing().await {
        return Ok(Passed::Skipped(reason));
    }
    let place = tempfile::tempdir()?;
    let library = match shim(&place).await {
        Ok(library) => library,
        Err(error) => return Ok(Passed::Skipped(format!("no C compiler: {error:#}"))),
    };
    let references = References::make().await?;
    let mutants = match size {
        Size::Reduced => &MUTANTS[..1],
        Size::Full(_) => &MUTANTS[..],
    };
    let mut caught = Vec::new();
    for (name, path) in mutants {
        let mutant = Mutant {
            library: &library,
            path,
        };
        let promise = survive(&mutant, &references)
            .await
            .with_context(|| format!("the fsync {name} removed"))?;
        caught.push(format!("{name} ({promise})"));
    }
    Ok(Passed::new(format!(
        "caught without the fsync {}",
        caught.join(", ")
    )))
}

struct Mutant<'a> {
    library: &'a Path,
    path: &'a str,
}

/// Cuts until a promise breaks and returns what broke; a mutant that breaks none is an error.
async fn survive(mutant: &Mutant<'_>, references: &References) -> Result<String> {
    for seed in 0..TRIES {
        if let Err(error) = cut(seed, references, Some(mutant)).await {
            let text = format!("{error:#}");
            return Ok(text
                .lines()
                .next()
                .unwrap_or_default()
                .chars()
                .take(90)
                .collect());
        }
    }
    bail!("{TRIES} power cuts have broken no promise, so a missing fsync would go unnoticed")
}

async fn shim(place: &TempDir) -> Result<PathBuf> {
    let source = place.path().join("lost_fsync.c");
    let library = place.path().join("lost_fsync.so");
    fs::write(&source, include_str!("lost_fsync.c"))?;
    let words = ["-shared", "-fPIC", "-O1", "-o"].map(Path::new);
    let words: Vec<_> = words
        .into_iter()
        .chain([&*library, &*source, Path::new("-ldl")])
        .collect();
    let words: Vec<_> = words.iter().filter_map(|word| word.to_str()).collect();
    run("cc", &words).await?;
    Ok(library)
}

async fn cut(seed: u64, references: &References, mutant: Option<&Mutant<'_>>) -> Result<()> {
    let disk = Disk::ext4(MEGABYTES).await?;
    let mut world = World::within(Folders::at(&disk.root())?, disk.beside()).await?;
    disk.sync().await?;
    let mut command = world.folders.command()?;
    if let Some(mutant) = mutant {
        command
            .env("LD_PRELOAD", mutant.library)
            .env("LOST_FSYNC", mutant.path);
    }
    world.start_as(command).await?;
    let wishes = wishes(&[Kind::Short, Kind::Lora]);
    let clients = tokio::spawn(fulfil(world.site.clone(), wishes.clone(), &[]));
    let mut random = Rng::with_seed(seed);
    // From the first upload to some time after the first job's end.
    sleep(Duration::from_millis(random.u64(30..2200))).await;
    world.signal(Signal::STOP)?;
    disk.snapshot().await?;
    world.kill().await?;
    disk.restore().await?;
    world
        .start()
        .await
        .context("P6: no start after the power cut")?;
    clients.await??;
    promises::assert(&world, &wishes, references, Allowed::NOTHING).await?;
    world.kill().await
}

/// F5: what was written last is torn. The result must be the same, from an older checkpoint, or an end that says why.
pub(crate) async fn torn_writes(size: Size) -> Result<Passed> {
    let rounds = match size {
        Size::Reduced => 3,
        Size::Full(_) => 30,
    };
    let references = References::make().await?;
    let mut seen = BTreeMap::<String, u32>::new();
    for seed in 0..rounds {
        let mut world = World::running().await?;
        let end = torn(&mut world, seed, &references).await;
        match end {
            Ok(end) => *seen.entry(end).or_default() += 1,
            Err(error) => {
                return Err(
                    error.context(format!("seed {seed}; everything lies in {}", world.keep()))
                );
            }
        }
    }
    let seen: Vec<_> = seen
        .iter()
        .map(|(end, count)| format!("{count} {end}"))
        .collect();
    Ok(Passed::new(format!(
        "{rounds} torn files: {}",
        seen.join(", ")
    )))
}

async fn torn(world: &mut World, seed: u64, references: &References) -> Result<String> {
    let mut random = Rng::with_seed(seed);
    let wishes = wishes(&[Kind::Lora]);
    let clients = tokio::spawn(fulfil(world.site.clone(), wishes.clone(), &[]));
    sleep(Duration::from_millis(random.u64(500..1100))).await;
    world.kill().await?;
    let newest = newest(&world.folders.data().join("jobs"))?;
    let Some(path) = newest else {
        world.start().await?;
        clients.await??;
        return Ok("came before the first checkpoint".to_owned());
    };
    tear(&path, &mut random)?;
    world.start().await?;
    clients.await??;
    let jobs = world.site.get(JOBS).await?;
    if jobs["data"][0]["attempt"] == 1 {
        return Ok("came after the job's end".to_owned());
    }
    promises::assert(world, &wishes, references, Allowed(&["checkpoint_corrupt"])).await?;
    Ok("mended from an older checkpoint, or refused as corrupt".to_owned())
}

/// The file of a checkpoint that was written last.
fn newest(dir: &Path) -> Result<Option<PathBuf>> {
    let mut found = Vec::new();
    files(dir, &mut found)?;
    found.retain(|(_, path)| path.to_string_lossy().contains("checkpoints"));
    Ok(found.into_iter().max().map(|(_, path)| path))
}

fn files(dir: &Path, found: &mut Vec<(std::time::SystemTime, PathBuf)>) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files(&entry.path(), found)?;
        } else {
            found.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    Ok(())
}

/// Spoils the last sector of a file: cuts it off, or writes zeros or noise over it.
fn tear(path: &Path, random: &mut Rng) -> Result<()> {
    let length = fs::metadata(path)?.len();
    ensure!(length > 0, "{} is empty", path.display());
    let sector = [512, 4096][random.usize(0..2)].min(length);
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    match random.u8(0..3) {
        0 => file.set_len(length - sector)?,
        how => {
            let mut bytes = vec![0; sector as usize];
            if how == 1 {
                random.fill(&mut bytes);
            }
            file.seek(SeekFrom::Start(length - sector))?;
            file.write_all(&bytes)?;
        }
    }
    Ok(())
}
