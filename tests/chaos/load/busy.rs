//! L8: the API while every core trains, and how soon a cancel takes hold.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use taper_tests::{model::jsonl, server::Folders};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    check::{Passed, Size},
    load::{figures::Times, line::Line},
};

const JOBS: &str = "/v1/fine_tuning/jobs";
const GET_MS: f64 = 50.0;
const CANCEL_MS: f64 = 2000.0;
const CLIENTS: u64 = 8;

pub(crate) async fn training(size: Size) -> Result<Passed> {
    let (cancels, seconds) = match size {
        Size::Reduced => (3, 4),
        Size::Full(_) => (30, 40),
    };
    let mut folders = Folders::new()?;
    folders.threads = std::thread::available_parallelism()?.get();
    let server = folders.serve().await?;
    let file = server.client.upload("rows.jsonl", jsonl(6400)).await?;
    // Steps of some hundred milliseconds: a cancel comes in the middle of one.
    let body = json!({"training": {"num_train_epochs": 10_000, "per_device_train_batch_size": 256, "gradient_accumulation_steps": 25, "save_steps": 1_000_000}});
    let mut tasks = JoinSet::new();
    let until = Instant::now() + Duration::from_secs(seconds);
    for _ in 0..CLIENTS {
        tasks.spawn(get(server.client.addr.clone(), until));
    }
    let mut stops = Times::default();
    for round in 0..cancels {
        let job = server.client.submit(&file, body.clone()).await?;
        server.client.wait(&job, "running").await?;
        sleep(Duration::from_millis(200 + 37 * round)).await;
        let began = Instant::now();
        let path = format!("{JOBS}/{job}/cancel");
        let answer: Value = server
            .client
            .json(server.client.request(reqwest::Method::POST, &path))
            .await?;
        stops.add(began.elapsed());
        ensure!(
            answer["status"] == "cancelled",
            "after {:?} the job is {}",
            began.elapsed(),
            answer["status"]
        );
    }
    let mut gets = Times::default();
    while let Some(times) = tasks.join_next().await {
        gets.extend(times??);
    }
    let figures =
        format!("{CLIENTS} clients, GET of a list {gets}; cancel of a running job {stops}");
    if size.is_full() {
        let held = gets.p99() <= GET_MS && stops.share(1.0) <= CANCEL_MS;
        ensure!(
            held,
            "below the targets ({GET_MS} ms, {CANCEL_MS} ms): {figures}"
        );
    }
    Ok(Passed::new(figures))
}

/// A client that asks 20 times a second.
async fn get(addr: String, until: Instant) -> Result<Times> {
    let mut line = Line::connect(&addr).await?;
    let mut times = Times::default();
    while Instant::now() < until {
        let began = Instant::now();
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
