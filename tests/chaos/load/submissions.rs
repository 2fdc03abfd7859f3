//! L1: many clients submit at once while one job trains; every promise is kept across a kill.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use taper_tests::{
    model::jsonl,
    server::{Folders, MODEL, Server},
};
use tokio::task::JoinSet;

use crate::{
    check::{Passed, Size},
    load::{
        figures::{Times, Usage},
        line::Line,
    },
};

const CLIENTS: u64 = 200;
const JOBS: &str = "/v1/fine_tuning/jobs";
/// Submissions a second at least.
const RATE: f64 = 1500.0;
const P99_MS: f64 = 150.0;

pub(crate) async fn at_once(size: Size) -> Result<Passed> {
    let each = match size {
        Size::Reduced => 10,
        Size::Full(_) => 100,
    };
    let folders = Folders::new()?;
    let server = folders.serve().await?;
    let rows = server.client.upload("rows.jsonl", jsonl(4)).await?;
    let blocker = json!({"training": {"num_train_epochs": 10_000, "save_steps": 5000}});
    let long = server.client.upload("long.jsonl", jsonl(320)).await?;
    let blocker = server.client.submit(&long, blocker).await?;
    server.client.wait_for_step(&blocker, 1).await?;

    let body =
        json!({"model": MODEL, "training_file": rows, "training": {"max_steps": 1}}).to_string();
    let began = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(client(server.client.addr.clone(), body.clone(), each));
    }
    let (mut times, mut promised) = (Times::default(), Vec::new());
    while let Some(client) = clients.join_next().await {
        let (taken, ids) = client??;
        times.extend(taken);
        promised.extend(ids);
    }
    let seconds = began.elapsed().as_secs_f64();
    let rate = promised.len() as f64 / seconds;
    let memory = Usage::of(server.pid()?)?.rss_mib();
    server.kill().await?;

    let server = folders.serve().await?;
    let kept = all_jobs(&server).await?;
    let distinct: BTreeSet<_> = promised.iter().cloned().collect();
    ensure!(
        distinct.len() == promised.len(),
        "P2: an id was given twice"
    );
    let lost = distinct.difference(&kept).count();
    ensure!(
        lost == 0,
        "P1: {lost} of {} promised jobs are gone after a kill",
        promised.len()
    );
    ensure!(
        kept.len() == promised.len() + 1,
        "{} jobs came of {} submissions",
        kept.len() - 1,
        promised.len()
    );
    let figures = format!(
        "{} submissions by {CLIENTS} clients: {rate:.0} a second, {times}; none lost or doubled by a kill; memory {memory:.0} MiB",
        promised.len()
    );
    if size.is_full() {
        ensure!(
            rate >= RATE && times.p99() <= P99_MS,
            "below the target of {RATE} a second and p99 {P99_MS} ms: {figures}"
        );
    }
    Ok(Passed::new(figures))
}

async fn client(addr: String, body: String, count: usize) -> Result<(Times, Vec<String>)> {
    let mut line = Line::connect(&addr).await?;
    let (mut times, mut ids) = (Times::default(), Vec::new());
    for _ in 0..count {
        let began = Instant::now();
        let (status, answer) = line.send("POST", JOBS, &body).await?;
        times.add(began.elapsed());
        ensure!(
            status == 200,
            "{status}: {}",
            String::from_utf8_lossy(&answer)
        );
        let job: Value = serde_json::from_slice(&answer)?;
        ids.push(job["id"].as_str().context("no id")?.to_owned());
    }
    Ok((times, ids))
}

/// Ids of all jobs, page by page.
async fn all_jobs(server: &Server) -> Result<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    let mut after = String::new();
    loop {
        let page = server
            .client
            .get(&format!("{JOBS}?limit=1000{after}"))
            .await?;
        for job in page["data"].as_array().context("no list")? {
            let id = job["id"].as_str().context("no id")?;
            ensure!(ids.insert(id.to_owned()), "P2: {id} is listed twice");
            after = format!("&after={id}");
        }
        if page["has_more"] != true {
            return Ok(ids);
        }
        tokio::time::sleep(Duration::ZERO).await;
    }
}
