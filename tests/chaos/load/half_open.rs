//! L9: thousands of connections that never finish the head of a request, beside clients that behave.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use taper_tests::{model::jsonl, server::Folders};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::sleep,
};

use crate::{
    check::{Passed, Size},
    load::{
        figures::{Times, Usage},
        line::Line,
    },
};

const P99_MS: f64 = 100.0;
const CLOSED_SECONDS: f64 = 12.0;
const CLIENTS: u64 = 8;

pub(crate) async fn many(size: Size) -> Result<Passed> {
    let count: u64 = match size {
        Size::Reduced => 200,
        Size::Full(_) => 2000,
    };
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )?;
    if maximum.is_some_and(|most| most < 2 * count) {
        return Ok(Passed::Skipped(format!(
            "no more than {maximum:?} files may be open"
        )));
    }
    let folders = Folders::new()?;
    let server = folders.serve().await?;
    let rows = server.client.upload("rows.jsonl", jsonl(320)).await?;
    let long = json!({"training": {"num_train_epochs": 10_000, "save_steps": 1_000_000}});
    let job = server.client.submit(&rows, long).await?;
    server.client.wait_for_step(&job, 1).await?;
    let before = Usage::of(server.pid()?)?;

    let mut halves = JoinSet::new();
    for _ in 0..count {
        halves.spawn(half_open(server.client.addr.clone()));
    }
    let until = Instant::now() + Duration::from_secs(14);
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(get(server.client.addr.clone(), until));
    }
    sleep(Duration::from_secs(5)).await;
    let during = Usage::of(server.pid()?)?;
    let mut closed = Times::default();
    while let Some(half) = halves.join_next().await {
        closed.add(half??);
    }
    let mut gets = Times::default();
    while let Some(client) = clients.join_next().await {
        gets.extend(client??);
    }
    let held = during.files.saturating_sub(before.files);
    let figures = format!(
        "{count} half-open connections ({held} descriptors held after 5 s, {:+.1} MiB), closed after {closed}; {CLIENTS} clients beside them, each GET on a connection of its own, {gets}",
        during.rss_mib() - before.rss_mib()
    );
    ensure!(
        closed.share(1.0) <= CLOSED_SECONDS * 1e3,
        "closed later than after {CLOSED_SECONDS} s: {figures}"
    );
    if size.is_full() {
        ensure!(held as u64 >= count, "not all were let in: {figures}");
        ensure!(gets.p99() <= P99_MS, "slower than {P99_MS} ms: {figures}");
    }
    Ok(Passed::new(figures))
}

/// Sends a header now and then, and never the end of the head. Returns how long the server put up with it.
async fn half_open(addr: String) -> Result<Duration> {
    let mut line = TcpStream::connect(&addr).await?;
    let began = Instant::now();
    let head = format!("GET /v1/files HTTP/1.1\r\nHost: {addr}\r\n");
    line.write_all(head.as_bytes()).await?;
    let (mut reading, mut writing) = line.split();
    let dribble = async {
        loop {
            sleep(Duration::from_secs(2)).await;
            if writing.write_all(b"X: x\r\n").await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = reading.read_u8() => {}
        () = dribble => {}
    }
    Ok(began.elapsed())
}

/// A client that asks 20 times a second, each time on a new connection.
async fn get(addr: String, until: Instant) -> Result<Times> {
    let mut times = Times::default();
    while Instant::now() < until {
        let began = Instant::now();
        let mut line = Line::connect(&addr).await?;
        let (status, _) = line
            .send("GET", "/v1/fine_tuning/jobs?limit=20", "")
            .await
            .context("GET")?;
        times.add(began.elapsed());
        ensure!(status == 200, "a list was answered with {status}");
        sleep(Duration::from_millis(50)).await;
    }
    Ok(times)
}
