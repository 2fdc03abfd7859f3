//! L2: a hundred thousand jobs wait and a million have ended; claims, lists and starts stay quick.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sqlx::{Connection, Executor, SqliteConnection, sqlite::SqliteConnectOptions};
use taper_tests::{
    model::jsonl,
    server::{Folders, Server},
};

use crate::{
    check::{Passed, Size},
    load::{
        figures::{Times, Usage},
        line::Line,
    },
};

const JOBS: &str = "/v1/fine_tuning/jobs";
const CLAIM_MS: f64 = 15.0;
const PAGE_MS: f64 = 30.0;
const START_SECONDS: f64 = 3.0;
const MEMORY_MIB: f64 = 200.0;

pub(crate) async fn long(size: Size) -> Result<Passed> {
    let (queued, ended, rounds) = match size {
        Size::Reduced => (10_000, 20_000, 20),
        Size::Full(_) => (100_000, 1_000_000, 200),
    };
    let folders = Folders::new()?;
    let running = fill(&folders, queued, ended).await?;
    let began = Instant::now();
    let server = folders.serve().await?;
    let start = began.elapsed().as_secs_f64();
    let pages = pages(&server, rounds).await?;
    let claims = claims(&server, running, rounds).await?;
    let memory = Usage::of(server.pid()?)?.rss_mib();
    let figures = format!(
        "{queued} queued, {ended} ended: from an end to the next start {claims}; pages {pages}; ready after {start:.1} s; memory {memory:.0} MiB"
    );
    if size.is_full() {
        let held = claims.p99() <= CLAIM_MS
            && pages.p99() <= PAGE_MS
            && start <= START_SECONDS
            && memory <= MEMORY_MIB;
        ensure!(
            held,
            "below the targets (claim {CLAIM_MS} ms, page {PAGE_MS} ms, start {START_SECONDS} s, {MEMORY_MIB} MiB): {figures}"
        );
    }
    Ok(Passed::new(figures))
}

/// Copies two real jobs, one that waits and one that has ended, many times over in a database at rest. Returns the job that runs first.
async fn fill(folders: &Folders, queued: u64, ended: u64) -> Result<String> {
    let server = folders.serve().await?;
    let rows = server.client.upload("rows.jsonl", jsonl(320)).await?;
    let long = json!({"training": {"max_steps": 100_000_000, "logging_steps": 10_000, "save_steps": 100_000_000}});
    let running = server.client.submit(&rows, long.clone()).await?;
    server.client.wait_for_step(&running, 1).await?;
    let waiting = server.client.submit(&rows, long.clone()).await?;
    server.client.wait(&waiting, "queued").await?;
    let over = server.client.submit(&rows, long).await?;
    let path = format!("{JOBS}/{over}/cancel");
    server
        .client
        .json(server.client.request(reqwest::Method::POST, &path))
        .await?;
    ensure!(
        server.terminate().await?.success(),
        "the server did not end well"
    );

    let options = SqliteConnectOptions::new().filename(folders.data().join("taper.db"));
    let mut connection = SqliteConnection::connect_with(&options).await?;
    connection.execute("pragma foreign_keys = off").await?;
    connection.execute("begin").await?;
    for (job, count) in [(&over, ended), (&waiting, queued)] {
        copy(&mut connection, job, count).await?;
    }
    connection.execute("commit").await?;
    connection.close().await?;
    Ok(running)
}

async fn copy(connection: &mut SqliteConnection, job: &str, count: u64) -> Result<()> {
    let columns: Vec<(String, i64)> = sqlx::query_as(
        "select name, hidden from pragma_table_xinfo('jobs') where name not in ('row', 'id')",
    )
    .fetch_all(&mut *connection)
    .await?;
    // Hidden ones are computed.
    let columns: Vec<_> = columns
        .into_iter()
        .filter(|(_, hidden)| *hidden == 0)
        .map(|(name, _)| name)
        .collect();
    let columns = columns.join(", ");
    let statement = format!(
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < {count})
         insert into jobs (id, {columns}) select jobs.id || '-' || i, {columns} from n, jobs where jobs.id = '{job}'"
    );
    connection.execute(sqlx::AssertSqlSafe(statement)).await?;
    Ok(())
}

/// Times of pages from the newest job on, each after the one before.
async fn pages(server: &Server, rounds: usize) -> Result<Times> {
    let mut line = Line::connect(&server.client.addr).await?;
    let mut times = Times::default();
    let mut after = String::new();
    for _ in 0..rounds {
        let began = Instant::now();
        let (status, body) = line
            .send("GET", &format!("{JOBS}?limit=20{after}"), "")
            .await?;
        times.add(began.elapsed());
        ensure!(status == 200, "a page was answered with {status}");
        let page: serde_json::Value = serde_json::from_slice(&body)?;
        after = format!("&after={}", page["last_id"].as_str().context("no last id")?);
    }
    Ok(times)
}

/// Cancels the running job again and again: times from the event of its end to that of the next one's start.
async fn claims(server: &Server, first: String, rounds: usize) -> Result<Times> {
    let mut stream = Line::connect(&server.client.addr).await?;
    stream.follow("/v1/events/stream").await?;
    server.client.wait_for_step(&first, 1).await?;
    let mut line = Line::connect(&server.client.addr).await?;
    let (mut times, mut running) = (Times::default(), first);
    for _ in 0..rounds {
        let cancel = format!("{JOBS}/{running}/cancel");
        let (cancelled, started) = tokio::join!(line.send("POST", &cancel, ""), async {
            next(&mut stream, "cancelled").await?;
            let ended = Instant::now();
            let started = next(&mut stream, "running").await?;
            anyhow::Ok((ended.elapsed(), started))
        });
        ensure!(cancelled?.0 == 200, "a cancel was refused");
        let (time, started) = started?;
        times.add(time);
        running = started;
    }
    Ok(times)
}

/// Waits for the next job to enter a state; returns the job.
async fn next(stream: &mut Line, state: &str) -> Result<String> {
    loop {
        let event = stream.next_data().await?;
        if event["data"]["status"] == state {
            return Ok(event["job"].as_str().context("no job")?.to_owned());
        }
    }
}
