//! Experiments through the real binary: the comparison, successive halving, and a server that is killed in the middle.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    client::{Client, answer},
    model::jsonl,
    server::{Folders, MODEL, Server},
};

const EXPERIMENTS: &str = "/v1/experiments";

/// Creates an experiment on the tiny model and returns its id.
async fn submit(client: &Client, mut body: Value) -> Result<String> {
    body["model"] = MODEL.into();
    body["training_file"] = client.upload("train.jsonl", jsonl(240)).await?.into();
    body["validation_file"] = client.upload("valid.jsonl", jsonl(101)).await?.into();
    let (status, made) = answer(client.request(Method::POST, EXPERIMENTS).json(&body)).await?;
    ensure!(status == StatusCode::OK, "{status}: {made}");
    Ok(made["id"].as_str().context("no id")?.to_owned())
}

async fn find(client: &Client, id: &str) -> Result<Value> {
    client.get(&format!("{EXPERIMENTS}/{id}")).await
}

/// Waits until an experiment is as wanted.
async fn reach(client: &Client, id: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    let began = Instant::now();
    loop {
        let experiment = find(client, id).await?;
        if wanted(&experiment) {
            return Ok(experiment);
        }
        let ended = ["succeeded", "failed", "cancelled"].iter();
        let has_ended = ended.into_iter().any(|end| experiment["status"] == *end);
        ensure!(!has_ended, "it has ended: {experiment}");
        ensure!(
            began.elapsed() < Duration::from_secs(120),
            "waited for too long: {experiment}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn succeeded(client: &Client, id: &str) -> Result<Value> {
    reach(client, id, |it| it["status"] == "succeeded").await
}

fn rows(experiment: &Value) -> Result<&Vec<Value>> {
    experiment["table"].as_array().context("no table")
}

#[tokio::test]
async fn four_methods_are_compared_on_the_same_rows() -> Result<()> {
    let folders = Folders::new()?;
    let server = folders.serve().await?;
    let client = &server.client;
    let body = json!({"methods": "all", "seeds": [1, 2], "training": {"num_train_epochs": 4}});
    let id = submit(client, body).await?;
    let experiment = succeeded(client, &id).await?;
    let best = experiment["best"].as_u64().context("no best")?;
    for row in rows(&experiment)? {
        let mut sum = 0.0;
        for job in row["jobs"].as_array().context("no jobs")? {
            let job = client.job(job.as_str().context("no id")?).await?;
            ensure!(job["metrics"]["step"] == 60, "{job}");
            sum += job["metrics"]["valid_accuracy"]
                .as_f64()
                .context("no accuracy")?;
        }
        let metric = row["metric"].as_f64().context("no metric")?;
        ensure!((metric - sum / 2.0).abs() < 1e-12, "{row}");
        for measured in [
            "trainable_parameters",
            "train_seconds",
            "tokens_per_second",
            "peak_memory_bytes",
            "adapter_bytes",
        ] {
            ensure!(
                row[measured].as_f64().is_some_and(|it| it > 0.0),
                "{measured}: {row}"
            );
        }
        if row["configuration"] == best {
            ensure!(
                row["difference"] == 0.0 && row["difference_ci95"].is_null(),
                "{row}"
            );
            continue;
        }
        let difference = row["difference"].as_f64().context("no difference")?;
        let [low, high] = [0, 1].map(|bound| row["difference_ci95"][bound].as_f64());
        let (low, high) = low.zip(high).context("no interval")?;
        ensure!(
            low <= difference && difference <= high && difference <= 0.0,
            "{row}"
        );
    }
    ensure!(experiment["recommendation"].is_string(), "{experiment}");
    let markdown = client
        .bytes(&format!("{EXPERIMENTS}/{id}/table?format=markdown"))
        .await?;
    ensure!(String::from_utf8(markdown)?.contains("| LoRA r=8 | "));
    Ok(())
}

/// Steps of a run that is not stopped early.
const STEPS: u32 = 270;

fn grid() -> Value {
    json!({
        "grid": {"training.learning_rate": [1e-5, 1e-4, 1e-3, 1e-2], "tuning.r": [2, 4, 8]},
        "training": {"max_steps": STEPS, "per_device_train_batch_size": 8, "logging_steps": 5},
        "strategy": {"type": "asha", "reduction": 3},
    })
}

/// The table without what differs from run to run: ids, times, and the memory of a process.
fn stable(experiment: &Value) -> Result<String> {
    let mut rows = rows(experiment)?.clone();
    for row in &mut rows {
        let row = row.as_object_mut().context("no row")?;
        for name in [
            "jobs",
            "train_seconds",
            "tokens_per_second",
            "peak_memory_bytes",
        ] {
            row.remove(name);
        }
    }
    let whole = json!({"best": experiment["best"], "table": rows, "steps": experiment["progress"]["steps"]});
    Ok(whole.to_string())
}

#[tokio::test]
async fn a_killed_server_s_experiment_ends_with_the_same_table() -> Result<()> {
    let folders = Folders::new()?;
    let mut server: Server = folders.serve().await?;
    let id = submit(&server.client, grid()).await?;
    let undisturbed = succeeded(&server.client, &id).await?;
    let stopped = rows(&undisturbed)?
        .iter()
        .filter(|row| row["status"] == "stopped_early");
    ensure!(stopped.count() == 10, "{undisturbed}");
    let steps = undisturbed["progress"]["steps"]
        .as_f64()
        .context("no steps")?;
    ensure!(steps <= 0.45 * 12.0 * f64::from(STEPS), "{steps} steps");

    let id = submit(&server.client, grid()).await?;
    for steps in [100, 300, 500] {
        reach(&server.client, &id, |it| {
            it["progress"]["steps"].as_u64() >= Some(steps)
        })
        .await?;
        server.kill().await?;
        server = folders.serve().await?;
    }
    let disturbed = succeeded(&server.client, &id).await?;
    assert_eq!(stable(&disturbed)?, stable(&undisturbed)?);
    Ok(())
}

#[tokio::test]
async fn a_run_that_was_promoted_ends_with_the_bytes_of_one_that_never_waited() -> Result<()> {
    let folders = Folders::new()?;
    let server = folders.serve().await?;
    let client = &server.client;
    let asha = submit(client, grid()).await?;
    let asha = succeeded(client, &asha).await?;
    let best = asha["best"].as_u64().context("no best")? as usize;
    let mut all = grid();
    all["strategy"] = json!("all");
    let all = submit(client, all).await?;
    let all = succeeded(client, &all).await?;
    let mut sums = Vec::new();
    for experiment in [&asha, &all] {
        let job = rows(experiment)?[best]["jobs"][0]
            .as_str()
            .context("no id")?;
        let artifacts = client
            .get(&format!("/v1/fine_tuning/jobs/{job}/artifacts"))
            .await?;
        let artifacts = artifacts["data"]
            .as_array()
            .context("no artifacts")?
            .clone();
        let is_same = |it: &&Value| {
            ["adapter/adapter_model.safetensors", "validation_rows.csv"]
                .iter()
                .any(|path| it["path"] == *path)
        };
        let found: Vec<_> = artifacts
            .iter()
            .filter(is_same)
            .map(|it| it["sha256"].clone())
            .collect();
        ensure!(found.len() == 2, "{artifacts:?}");
        sums.push(found);
    }
    assert_eq!(sums[0], sums[1]);
    Ok(())
}
