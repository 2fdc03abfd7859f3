//! L3, L4: a thousand watchers, and watchers that do not read.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use taper_tests::{
    model::jsonl,
    server::{Folders, Server},
};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    check::{Passed, Size},
    load::{
        figures::{Times, Usage},
        line::Line,
    },
};

const JOBS: &str = "/v1/fine_tuning/jobs";
const LAG_MS: f64 = 500.0;
const KIB_EACH: f64 = 64.0;
/// The longest that a watcher who never reads may stay, and how much later that is seen here.
const STALLED_SECONDS: f64 = 30.0;
const SEEN_SECONDS: f64 = 5.0;
/// What the sockets of such watchers hold that nobody has read.
const NARROW: u32 = 4096;
const STALLED_MIB: f64 = 10.0;

/// When each event first reached anybody: the commit is known to nobody outside, but the first of many watchers is close to it.
type Firsts = Arc<Mutex<Vec<Option<Instant>>>>;

/// What a watcher got: when each event came.
type Arrivals = Vec<(u64, Instant)>;

/// Half of the watchers follow one job that tells 20 steps a second, half a job that waits.
pub(crate) async fn many(size: Size) -> Result<Passed> {
    let (watchers, seconds) = match size {
        Size::Reduced => (200, 5),
        Size::Full(_) => (1000, 30),
    };
    let folders = Folders::new()?;
    let server = folders.serve().await?;
    let (busy, idle) = (telling(&server, 50).await?, waiting(&server).await?);
    let before = Usage::of(server.pid()?)?;
    let firsts = Firsts::default();
    let mut tasks = JoinSet::new();
    for number in 0..watchers {
        let job = if number % 2 == 0 { &busy } else { &idle };
        let (addr, path) = (
            server.client.addr.clone(),
            format!("{JOBS}/{job}/events/stream"),
        );
        tasks.spawn(watch(
            addr,
            path,
            Duration::from_secs(seconds),
            firsts.clone(),
        ));
    }
    sleep(Duration::from_secs(seconds - 1)).await;
    let during = Usage::of(server.pid()?)?;
    let (mut lags, mut events) = (Times::default(), 0);
    while let Some(arrivals) = tasks.join_next().await {
        let arrivals = arrivals??;
        events += arrivals.len();
        lags.extend(lags_of(&arrivals, &firsts)?);
    }
    let each = during.rss_kib.saturating_sub(before.rss_kib) as f64 / watchers as f64;
    let figures = format!(
        "{watchers} watchers, {:.0} events a second out, no gap: lag behind the first watcher {lags}; {each:.0} KiB a watcher",
        events as f64 / seconds as f64
    );
    if size.is_full() {
        ensure!(
            lags.p99() <= LAG_MS && each <= KIB_EACH,
            "below the targets ({LAG_MS} ms, {KIB_EACH} KiB): {figures}"
        );
    }
    Ok(Passed::new(figures))
}

/// A job whose steps take about this long and tell of themselves each.
async fn telling(server: &Server, step_ms: u64) -> Result<String> {
    let rows = server.client.upload("rows.jsonl", jsonl(320)).await?;
    let body = |passes: u64| json!({"training": {"num_train_epochs": 10_000, "logging_steps": 1, "save_steps": 1_000_000, "gradient_accumulation_steps": passes}});
    // How long one pass takes here is found out by a job that is then cancelled.
    let probe = server.client.submit(&rows, body(1)).await?;
    server.client.wait_for_step(&probe, 20).await?;
    let seconds = server.client.job(&probe).await?["metrics"]["step_seconds"]
        .as_f64()
        .context("no step time")?;
    let cancel = format!("{JOBS}/{probe}/cancel");
    server
        .client
        .json(server.client.request(reqwest::Method::POST, &cancel))
        .await?;
    let passes = (step_ms as f64 / 1e3 / seconds).ceil() as u64;
    let file = server
        .client
        .upload("more.jsonl", jsonl(320 * passes as usize))
        .await?;
    let job = server.client.submit(&file, body(passes)).await?;
    server.client.wait_for_step(&job, 1).await?;
    Ok(job)
}

async fn waiting(server: &Server) -> Result<String> {
    let rows = server.client.upload("rows.jsonl", jsonl(320)).await?;
    let job = server.client.submit(&rows, json!({})).await?;
    server.client.wait(&job, "queued").await?;
    Ok(job)
}

/// Follows a stream for a time; events must be numbered without a gap.
async fn watch(addr: String, path: String, how_long: Duration, firsts: Firsts) -> Result<Arrivals> {
    let mut line = Line::connect(&addr).await?;
    line.follow(&path).await?;
    let until = Instant::now() + how_long;
    let mut arrivals = Arrivals::new();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let Ok(id) = timeout(left, line.next_id()).await else {
            return Ok(arrivals);
        };
        let id = id?.context("the job has ended")?;
        let now = Instant::now();
        let wanted = arrivals.last().map_or(1, |(last, _)| last + 1);
        ensure!(id == wanted, "P7: event {id} came after {}", wanted - 1);
        arrivals.push((id, now));
        let mut firsts = firsts.lock().unwrap_or_else(PoisonError::into_inner);
        if firsts.len() <= id as usize {
            firsts.resize(id as usize + 1, None);
        }
        let first = firsts[id as usize].get_or_insert(now);
        *first = now.min(*first);
    }
}

/// How much later than the first watcher this one got what was live, not what it was told at the start.
fn lags_of(arrivals: &Arrivals, firsts: &Firsts) -> Result<Times> {
    let firsts = firsts.lock().unwrap_or_else(PoisonError::into_inner);
    let mut lags = Times::default();
    let Some((_, connected)) = arrivals.first() else {
        return Ok(lags);
    };
    for (id, at) in arrivals {
        let first = firsts[*id as usize].context("an event that nobody got")?;
        if first > *connected + Duration::from_secs(1) {
            lags.add(at.duration_since(first));
        }
    }
    Ok(lags)
}

/// Ten watchers read, others read a byte a second or nothing at all.
pub(crate) async fn stalled(size: Size) -> Result<Passed> {
    let (others, seconds) = match size {
        Size::Reduced => (20, 40),
        Size::Full(_) => (100, 60),
    };
    let folders = Folders::new()?;
    let server = folders.serve().await?;
    let job = telling(&server, 2).await?;
    let path = format!("{JOBS}/{job}/events/stream");
    let healthy = async |how_long: u64| {
        let firsts = Firsts::default();
        let mut tasks = JoinSet::new();
        for _ in 0..10 {
            let how_long = Duration::from_secs(how_long);
            tasks.spawn(watch(
                server.client.addr.clone(),
                path.clone(),
                how_long,
                firsts.clone(),
            ));
        }
        let mut lags = Times::default();
        while let Some(arrivals) = tasks.join_next().await {
            lags.extend(lags_of(&arrivals??, &firsts)?);
        }
        anyhow::Ok(lags)
    };
    let alone = healthy(5).await?;
    let before = Usage::of(server.pid()?)?;
    let mut tasks = JoinSet::new();
    for _ in 0..others {
        tasks.spawn(neglect(server.client.addr.clone(), path.clone(), None));
        tasks.spawn(neglect(
            server.client.addr.clone(),
            path.clone(),
            Some(Duration::from_secs(1)),
        ));
    }
    let (beside, left) = tokio::join!(healthy(seconds), neglected(&server, before, others));
    let (beside, (left, stayed)) = (beside?, left?);
    let after = Usage::of(server.pid()?)?;
    tasks.abort_all();
    let growth = after.rss_mib() - before.rss_mib();
    let figures = format!(
        "10 watchers alone {alone}; beside {others} that read nothing and {others} that read a byte a second {beside}; {left} of those left after {stayed:.0} s; memory +{growth:.1} MiB"
    );
    ensure!(
        left == 0 && stayed <= STALLED_SECONDS + SEEN_SECONDS,
        "watchers that do not read are kept: {figures}"
    );
    if size.is_full() {
        ensure!(
            growth <= STALLED_MIB && beside.p99() <= LAG_MS,
            "below the targets: {figures}"
        );
    }
    Ok(Passed::new(figures))
}

/// Waits until the server has closed the lines that nobody reads. Returns how many it has kept, and how long that took.
async fn neglected(server: &Server, before: Usage, others: usize) -> Result<(usize, f64)> {
    // Those of ten watchers that read.
    let (all, healthy) = (2 * others, 10);
    let began = Instant::now();
    let open = || {
        anyhow::Ok(
            Usage::of(server.pid()?)?
                .files
                .saturating_sub(before.files + healthy),
        )
    };
    while open()? < all && began.elapsed() < Duration::from_secs(5) {
        sleep(Duration::from_millis(100)).await;
    }
    loop {
        let (left, stayed) = (open()?, began.elapsed().as_secs_f64());
        if left == 0 || stayed > STALLED_SECONDS + SEEN_SECONDS {
            return Ok((left, stayed));
        }
        sleep(Duration::from_millis(250)).await;
    }
}

/// Opens a stream and reads a byte now and then, or nothing.
async fn neglect(addr: String, path: String, pause: Option<Duration>) -> Result<()> {
    let mut line = Line::connect_narrow(&addr, NARROW).await?;
    line.follow(&path).await?;
    let mut socket: TcpStream = line.into_socket();
    let Some(pause) = pause else {
        std::future::pending::<()>().await;
        return Ok(());
    };
    loop {
        sleep(pause).await;
        if socket.read_u8().await.is_err() {
            return Ok(());
        }
    }
}

/// L5: a run that tells of each step against one that tells of none, in turn.
pub(crate) async fn telling_costs(size: Size) -> Result<Passed> {
    let (pairs, epochs) = match size {
        Size::Reduced => (1, 50),
        Size::Full(_) => (5, 600),
    };
    let folders = Folders::new()?;
    let server = folders.serve().await?;
    let rows = server.client.upload("rows.jsonl", jsonl(320)).await?;
    let mut ratios = Vec::new();
    for _ in 0..pairs {
        let mut seconds = [0.0; 2];
        for (place, logging) in [1, 1_000_000].into_iter().enumerate() {
            let body = json!({"training": {"num_train_epochs": epochs, "logging_steps": logging, "save_steps": 1_000_000, "per_device_train_batch_size": 32}});
            let job = server.client.submit(&rows, body).await?;
            let job: Value = server.client.wait(&job, "succeeded").await?;
            seconds[place] = job["metrics"]["train_seconds"]
                .as_f64()
                .context("no time")?;
        }
        ratios.push(seconds[0] / seconds[1]);
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    let figures = format!(
        "{pairs} pairs: {:+.1} % training time with every step told (from {:+.1} to {:+.1})",
        (median - 1.0) * 100.0,
        (ratios[0] - 1.0) * 100.0,
        (ratios[ratios.len() - 1] - 1.0) * 100.0
    );
    if size.is_full() {
        ensure!(median <= 1.01, "more than 1 %: {figures}");
    }
    Ok(Passed::new(figures))
}
