//! F21: a server with a thousand watchers is killed and comes back; all of them come back too, and each gets what it has missed.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use taper_tests::{model::jsonl, server::Folders};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    check::{Passed, Size},
    load::{figures::Times, line::Line},
};

const READY_SECONDS: f64 = 5.0;

pub(crate) async fn reconnects(size: Size) -> Result<Passed> {
    let watchers = match size {
        Size::Reduced => 200,
        Size::Full(_) => 1000,
    };
    let mut folders = Folders::new()?;
    // The address must be the same afterwards.
    folders.listen = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .to_string();
    let server = folders.serve().await?;
    let rows = server.client.upload("rows.jsonl", jsonl(320)).await?;
    let body =
        json!({"training": {"num_train_epochs": 50, "logging_steps": 20, "save_steps": 200}});
    let job = server.client.submit(&rows, body).await?;
    let back = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..watchers {
        tasks.spawn(watch(folders.listen.clone(), job.clone(), back.clone()));
    }
    server.client.wait_for_step(&job, 300).await?;
    server.kill().await?;
    back.store(0, Ordering::Relaxed);
    let began = Instant::now();
    let server = folders.serve().await?;
    let up = began.elapsed().as_secs_f64();
    while back.load(Ordering::Relaxed) < watchers && began.elapsed() < Duration::from_secs(60) {
        sleep(Duration::from_millis(5)).await;
    }
    let all_back = began.elapsed().as_secs_f64();
    server.client.wait(&job, "succeeded").await?;
    let events = server.client.events(&job).await?.len() as u64;
    let mut gaps = Times::default();
    while let Some(seen) = tasks.join_next().await {
        let (last, away) = seen??;
        ensure!(
            last == events,
            "P7: a watcher has got {last} of {events} events"
        );
        gaps.add(away);
    }
    let figures = format!(
        "{watchers} watchers over a kill, each with all {events} events once: the server is up after {up:.1} s, all are back after {all_back:.1} s, away {gaps}"
    );
    if size.is_full() {
        ensure!(
            all_back <= READY_SECONDS,
            "more than {READY_SECONDS} s: {figures}"
        );
    }
    Ok(Passed::new(figures))
}

/// Follows a job to its end over a kill. Returns the last number, and how long the line was away. Gives up when nothing comes for long.
async fn watch(addr: String, job: String, back: Arc<AtomicUsize>) -> Result<(u64, Duration)> {
    let path = format!("/v1/fine_tuning/jobs/{job}/events/stream");
    let (mut last, mut away, mut lost) = (0, Duration::ZERO, None::<Instant>);
    let mut heard = Instant::now();
    while heard.elapsed() < Duration::from_secs(120) {
        if let Ok(mut line) = Line::connect(&addr).await
            && let Ok(more) = line.follow_after(&path, last).await
        {
            if let Some(lost) = lost.take() {
                away = lost.elapsed();
                back.fetch_add(1, Ordering::Relaxed);
            }
            if !more {
                return Ok((last, away));
            }
            while let Ok(id) = line.next_id().await {
                let Some(id) = id else {
                    return Ok((last, away));
                };
                ensure!(id == last + 1, "P7: event {id} came after {last}");
                (last, heard) = (id, Instant::now());
            }
        }
        lost.get_or_insert_with(Instant::now);
        // As browsers do, at a time of its own.
        sleep(Duration::from_millis(fastrand::u64(100..1000))).await;
    }
    Err(anyhow::anyhow!("gave up")).context(path)
}
