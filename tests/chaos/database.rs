//! F10 to F13, F35: databases that are locked, opened twice, damaged, incomplete or of another version.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::Value;
use sqlx::{Connection, Executor, SqliteConnection, sqlite::SqliteConnectOptions};
use taper_tests::server::Folders;
use tokio::time::sleep;

use crate::{
    check::{Passed, Size},
    clients::fulfil,
    promises::{self, Allowed},
    specs::{Kind, References, wishes},
    world::World,
};

const JOBS: &str = "/v1/fine_tuning/jobs";

async fn open(folders: &Folders) -> Result<SqliteConnection> {
    let options = SqliteConnectOptions::new().filename(folders.data().join("taper.db"));
    Ok(SqliteConnection::connect_with(&options).await?)
}

/// F10: another process holds the lock while a job trains. Requests are refused in time, the job goes on, and all is well afterwards.
pub(crate) async fn locked(size: Size) -> Result<Passed> {
    let holds: &[u64] = match size {
        Size::Reduced => &[7],
        Size::Full(_) => &[1, 10, 60],
    };
    let references = References::make().await?;
    let mut longest = 0.0f64;
    for seconds in holds {
        let world = World::running().await?;
        let wishes = wishes(&[Kind::Lora]);
        let clients = tokio::spawn(fulfil(world.site.clone(), wishes.clone(), &[]));
        sleep(Duration::from_millis(500)).await;
        let mut other = open(&world.folders).await?;
        other.execute("begin exclusive").await?;
        let until = Instant::now() + Duration::from_secs(*seconds);
        while Instant::now() < until {
            longest = longest.max(refused_or_served(&world).await?);
        }
        other.execute("rollback").await?;
        clients.await??;
        promises::assert(&world, &wishes, &references, Allowed::NOTHING).await?;
    }
    Ok(Passed::new(format!(
        "locked for {holds:?} s: the longest answer to a submission took {longest:.1} s, the job has the same bytes"
    )))
}

/// Reads and submits under a lock: reading works, submitting works or is refused in time. Returns how long it took.
async fn refused_or_served(world: &World) -> Result<f64> {
    let client = &world.site.client;
    client
        .get(JOBS)
        .await
        .context("a locked database must be readable")?;
    let began = Instant::now();
    let request = client.request(Method::POST, "/v1/files");
    let part = reqwest::multipart::Part::text("{}\n").file_name("a.jsonl");
    let form = reqwest::multipart::Form::new()
        .text("purpose", "fine-tune")
        .part("file", part);
    let answer = request.multipart(form).send().await?;
    let took = began.elapsed().as_secs_f64();
    let (status, again) = (
        answer.status().as_u16(),
        answer.headers().contains_key("retry-after"),
    );
    ensure!(took < 12.0, "P10: the answer under a lock took {took:.1} s");
    ensure!(
        status == 200 || (status == 503 && again),
        "P10: under a lock the answer is {status}, retry-after: {again}; 503 with Retry-After belongs there"
    );
    Ok(took)
}

/// F11: a data directory serves one server, also when somebody has deleted the lock.
pub(crate) async fn opened_twice(_: Size) -> Result<Passed> {
    let world = World::running().await?;
    let refusal = world.refused().await?;
    ensure!(
        refusal.contains("in use"),
        "the second server says {refusal:?}"
    );
    let file = world
        .site
        .upload("train.jsonl", crate::specs::rows())
        .await?;
    fs::remove_file(world.folders.data().join("LOCK"))?;
    let second = world
        .folders
        .serve()
        .await
        .context("a second server after the lock was deleted")?;
    let (status, _) = taper_tests::client::answer(
        world
            .site
            .client
            .request(Method::POST, JOBS)
            .json(&body(&file)),
    )
    .await?;
    ensure!(
        status.is_server_error(),
        "P4: the replaced server has answered a submission with {status}"
    );
    let (status, job) = second.client.create(&body(&file)).await?;
    ensure!(
        status.is_success(),
        "the new server answers {status}: {job}"
    );
    Ok(Passed::new(format!(
        "refused: {refusal:?}; with the lock deleted the old server no longer writes"
    )))
}

fn body(file: &str) -> Value {
    let mut body = Kind::Short.body();
    body["model"] = taper_tests::server::MODEL.into();
    body["training_file"] = file.into();
    body
}

/// What a server makes of a damaged database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    /// It refused with a sentence and changed nothing.
    Nothing,
    /// It told what there was, or gave an error.
    Whole,
    /// It told something else.
    Other,
}

/// F12: a damaged database is refused with advice and left as it is, or serves everything there was. SQLite keeps no sums: a bit that
/// flips inside a value is not seen.
pub(crate) async fn damaged(size: Size) -> Result<Passed> {
    let flips = match size {
        Size::Reduced => 12,
        Size::Full(_) => 60,
    };
    let (world, jobs) = with_ended_jobs().await?;
    let database = world.folders.data().join("taper.db");
    let whole = fs::read(&database)?;
    let (mut refused, mut harmless, mut unseen) = (0, 0, 0);
    for seed in 0..flips {
        let mut bytes = whole.clone();
        let damage = spoil(&mut bytes, &mut Rng::with_seed(seed));
        let result = served(&world, &bytes, &jobs).await;
        match result.with_context(|| format!("seed {seed}"))? {
            Served::Nothing => refused += 1,
            Served::Whole => harmless += 1,
            Served::Other if damage == Damage::Bits => unseen += 1,
            Served::Other => bail!("seed {seed}: a database with noise in it gives other jobs"),
        }
    }
    let others: [(&str, Vec<u8>); 2] = [("zeros", vec![0; whole.len()]), ("nothing", Vec::new())];
    for (what, bytes) in others {
        let said = served(&world, &bytes, &jobs).await.context(what)?;
        ensure!(said == Served::Nothing, "a database of {what} was served");
    }
    fs::write(&database, &whole)?;
    fs::remove_file(&database)?;
    fs::create_dir(&database)?;
    let refusal = world
        .refused()
        .await
        .context("a folder in the place of the database")?;
    fs::remove_dir(&database)?;
    fs::write(&database, &whole)?;
    Ok(Passed::new(format!(
        "of {flips} damages {refused} were refused and left as they were, {harmless} hurt nothing, {unseen} flipped a bit inside a value, which nothing can see; zeros, an empty file and a folder were refused ({refusal:?})"
    )))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    Noise,
    Bits,
}

fn spoil(bytes: &mut [u8], random: &mut Rng) -> Damage {
    match random.u8(0..3) {
        0 => random.fill(&mut bytes[..64]),
        1 => {
            let page = random.usize(0..bytes.len() / 4096) * 4096;
            random.fill(&mut bytes[page..page + 4096]);
        }
        _ => {
            for _ in 0..16 {
                let place = random.usize(0..bytes.len());
                bytes[place] ^= 1 << random.u8(0..8);
            }
            return Damage::Bits;
        }
    }
    Damage::Noise
}

/// A world at rest in which some jobs have ended: their list, and everything in one file.
async fn with_ended_jobs() -> Result<(World, Value)> {
    let mut world = World::running().await?;
    fulfil(world.site.clone(), wishes(&[Kind::Short]), &[]).await?;
    let jobs = world.site.get(JOBS).await?;
    world.terminate().await?;
    Ok((world, jobs))
}

/// Starts a server on a database of these bytes.
async fn served(world: &World, bytes: &[u8], jobs: &Value) -> Result<Served> {
    let database = world.folders.data().join("taper.db");
    remove_log(&database)?;
    fs::write(&database, bytes)?;
    let server = world.folders.serve().await;
    let Ok(server) = server else {
        let refusal = world.refused().await?;
        let advice = refusal.contains("taper.db") && !refusal.contains("panicked");
        ensure!(advice, "the refusal says {refusal:?}");
        ensure!(
            fs::read(&database)? == bytes,
            "a refused database was written to"
        );
        return Ok(Served::Nothing);
    };
    let served = match server.client.get(JOBS).await {
        Ok(list) if list == *jobs => Served::Whole,
        Ok(_) => Served::Other,
        Err(error) => {
            ensure!(format!("{error:#}").contains("500"), "{error:#}");
            Served::Whole
        }
    };
    server.kill().await?;
    Ok(served)
}

fn remove_log(database: &Path) -> Result<()> {
    for end in ["-wal", "-shm"] {
        let mut name = database.as_os_str().to_owned();
        name.push(end);
        if Path::new(&name).exists() {
            fs::remove_file(name)?;
        }
    }
    Ok(())
}

/// F13: databases without their log's index, with the log of another, copied while in use.
pub(crate) async fn incomplete(_: Size) -> Result<Passed> {
    let mut world = World::running().await?;
    fulfil(world.site.clone(), wishes(&[Kind::Short]), &[]).await?;
    let jobs = world.site.get(JOBS).await?;
    let data = world.folders.data();
    // Copied while in use, with its log; frozen, since a copy of a moving database is another fault (use `taper backup`).
    world.signal(Signal::STOP)?;
    let copy = Folders::new()?;
    fs::create_dir_all(copy.data())?;
    for name in ["taper.db", "taper.db-wal"] {
        fs::copy(data.join(name), copy.data().join(name))?;
    }
    copy_folder(&data.join("files"), &copy.data().join("files"))?;
    copy_folder(&data.join("jobs"), &copy.data().join("jobs"))?;
    world.signal(Signal::CONT)?;
    let server = copy.serve().await.context("a copy without -shm")?;
    ensure!(
        server.client.get(JOBS).await? == jobs,
        "the copy has other jobs"
    );
    server.kill().await?;
    // The log of another database.
    world.kill().await?;
    let (other, _) = with_ended_jobs().await?;
    let stray = other.folders.data().join("taper.db-wal");
    fs::copy(data.join("taper.db-wal"), &stray)?;
    let told = match other.folders.serve().await {
        Ok(server) => {
            server.client.get(JOBS).await?;
            "is not taken"
        }
        Err(_) => {
            other.refused().await?;
            "is refused"
        }
    };
    Ok(Passed::new(format!(
        "a copy without -shm serves the same jobs; the log of another database {told}"
    )))
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    let status = std::process::Command::new("cp")
        .arg("-a")
        .args([from, to])
        .status()?;
    ensure!(status.success(), "cp ended with {status}");
    Ok(())
}

/// F35: a database of a newer version is refused and left alone.
pub(crate) async fn newer(_: Size) -> Result<Passed> {
    let (world, _) = with_ended_jobs().await?;
    let mut connection = open(&world.folders).await?;
    connection
        .execute(
            "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
             values (9999, 'of the future', true, x'00', 0)",
        )
        .await?;
    connection.close().await?;
    let refusal = world.refused().await?;
    if !refusal.contains("newer") {
        bail!("a newer database is refused with {refusal:?}");
    }
    Ok(Passed::new(format!("refused: {refusal:?}")))
}
