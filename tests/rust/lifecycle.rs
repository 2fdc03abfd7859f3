//! What users do to jobs, in every state a job can be in.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    client::{Client, answer},
    model::jsonl,
    server::{Folders, Server},
};

/// Actions with what becomes of a job in each state in which they are possible; in all others they are refused.
const ACTIONS: [(&str, &[(&str, &str)]); 6] = [
    (
        "cancel",
        &[
            ("queued", "cancelled"),
            ("running", "cancelled"),
            ("paused", "cancelled"),
            ("cancelled", "cancelled"),
        ],
    ),
    (
        "pause",
        &[
            ("queued", "paused"),
            ("running", "paused"),
            ("paused", "paused"),
        ],
    ),
    ("resume", &[("paused", "queued")]),
    ("retry", &[("failed", "queued")]),
    (
        "priority",
        &[
            ("queued", "queued"),
            ("running", "running"),
            ("paused", "paused"),
        ],
    ),
    (
        "delete",
        &[
            ("succeeded", "gone"),
            ("failed", "gone"),
            ("cancelled", "gone"),
        ],
    ),
];
const STATES: [&str; 6] = [
    "queued",
    "running",
    "paused",
    "succeeded",
    "failed",
    "cancelled",
];

async fn act(client: &Client, job: &str, action: &str) -> Result<(StatusCode, Value)> {
    let path = format!("/v1/fine_tuning/jobs/{job}");
    answer(match action {
        "priority" => client
            .request(Method::PATCH, &path)
            .json(&json!({"priority": 3})),
        "delete" => client.request(Method::DELETE, &path),
        verb => client.request(Method::POST, &format!("{path}/{verb}")),
    })
    .await
}

async fn done(client: &Client, job: &str, action: &str) -> Result<Value> {
    let (status, body) = act(client, job, action).await?;
    ensure!(status.is_success(), "{action}: {status} {body}");
    Ok(body)
}

fn endless() -> Value {
    json!({"training": {"num_train_epochs": 10000, "logging_steps": 5}})
}

/// A job in a state. `running` and those that wait behind it need the one worker.
async fn make(client: &Client, data: &str, state: &str) -> Result<String> {
    let quick = json!({"training": {"max_steps": 1}});
    let id = match state {
        "succeeded" => client.submit(data, quick).await?,
        // Each step multiplies the weights by -9.
        "failed" => {
            let wild = json!({"training": {"max_steps": 400, "learning_rate": 10, "max_grad_norm": 0,
                "weight_decay": 1, "optim": "adamw"}, "tuning": {"type": "full"}});
            client.submit(data, wild).await?
        }
        _ => client.submit(data, endless()).await?,
    };
    match state {
        "paused" | "cancelled" => {
            client.wait_for_step(&id, 5).await?;
            let verb = if state == "paused" { "pause" } else { "cancel" };
            done(client, &id, verb).await?;
        }
        "running" => client.wait_for_step(&id, 5).await?,
        "queued" => {
            client.wait(&id, "queued").await?;
        }
        _ => {}
    }
    Ok(id)
}

/// Every action in a state, each on a job of its own.
async fn check_state(server: &Server, data: &str, state: &str) -> Result<()> {
    let client = &server.client;
    for (action, possible) in ACTIONS {
        let blocker = match state {
            "queued" => Some(make(client, data, "running").await?),
            _ => None,
        };
        let id = make(client, data, state).await?;
        client.wait(&id, state).await?;
        let (status, body) = act(client, &id, action).await?;
        let told = format!("{action} of a job that is {state}: {status} {body}");
        match possible.iter().find(|(from, _)| *from == state) {
            Some((_, "gone")) => {
                ensure!(status == 200 && body["deleted"] == true, "{told}");
                ensure!(act(client, &id, "cancel").await?.0 == 404, "{told}");
            }
            Some((_, to)) => ensure!(status == 200 && body["status"] == *to, "{told}"),
            None => {
                let message = body["error"]["message"].as_str().context("no message")?;
                ensure!(
                    status == 400 && body["error"]["code"] == "invalid_state",
                    "{told}"
                );
                ensure!(message.contains(&format!("is {state};")), "{told}");
                ensure!(client.job(&id).await?["status"] == state, "{told}");
            }
        }
        for id in [Some(id), blocker].into_iter().flatten() {
            drop(act(client, &id, "cancel").await?);
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_action_in_every_state() -> Result<()> {
    let folders = Folders::new()?;
    let server = folders.serve().await?;
    let data = server.client.upload("train.jsonl", jsonl(64)).await?;
    for state in STATES {
        check_state(&server, &data, state).await?;
    }
    Ok(())
}

/// A job's artifacts with their sums; the times in the event files of TensorBoard and in the cards differ.
async fn sums(client: &Client, job: &str) -> Result<BTreeMap<String, Value>> {
    let list = client
        .get(&format!("/v1/fine_tuning/jobs/{job}/artifacts"))
        .await?;
    let list = list["data"].as_array().context("no list")?;
    let weights = list.iter().filter_map(|artifact| {
        let path = artifact["path"].as_str()?.to_owned();
        path.ends_with(".safetensors")
            .then(|| (path, artifact["sha256"].clone()))
    });
    Ok(weights.collect())
}

async fn losses(client: &Client, job: &str) -> Result<Value> {
    let curves = client
        .get(&format!(
            "/v1/fine_tuning/jobs/{job}/metrics?names=train_loss,valid_loss"
        ))
        .await?;
    Ok(curves["data"].clone())
}

#[tokio::test]
async fn a_run_paused_and_killed_on_its_way_equals_an_undisturbed_one() -> Result<()> {
    let spec = json!({"training": {"num_train_epochs": 200, "logging_steps": 7, "save_steps": 50, "eval_split": 0.1}});
    let folders = Folders::new()?;
    let mut server = folders.serve().await?;
    let data = server.client.upload("train.jsonl", jsonl(200)).await?;
    let whole = server.client.submit(&data, spec.clone()).await?;
    let ended = server.client.wait(&whole, "succeeded").await?;
    let steps = ended["metrics"]["step"].as_u64().context("no steps")?;

    let id = server.client.submit(&data, spec).await?;
    for quarter in 1..=3 {
        server
            .client
            .wait_for_step(&id, steps * quarter / 4)
            .await?;
        if quarter == 2 {
            server.kill().await?;
            server = folders.serve().await?;
            continue;
        }
        let paused = done(&server.client, &id, "pause").await?;
        ensure!(paused["status"] == "paused", "{paused}");
        ensure!(server.terminate().await?.success());
        server = folders.serve().await?;
        let still = server.client.job(&id).await?;
        ensure!(
            still["status"] == "paused" && still["metrics"]["step"] == paused["metrics"]["step"]
        );
        done(&server.client, &id, "resume").await?;
    }
    let ended = server.client.wait(&id, "succeeded").await?;
    ensure!(ended["attempt"] == 4, "{ended}");
    let client = &server.client;
    let undisturbed = sums(client, &whole).await?;
    assert!(!undisturbed.is_empty());
    assert_eq!(sums(client, &id).await?, undisturbed);
    assert_eq!(losses(client, &id).await?, losses(client, &whole).await?);
    Ok(())
}

#[tokio::test]
async fn a_damaged_checkpoint_is_passed_over() -> Result<()> {
    let folders = Folders::new()?;
    let server = folders.serve().await?;
    let data = server.client.upload("train.jsonl", jsonl(200)).await?;
    let spec =
        json!({"training": {"num_train_epochs": 10000, "logging_steps": 5, "save_steps": 20}});
    let id = server.client.submit(&data, spec).await?;
    server.client.wait_for_step(&id, 100).await?;
    done(&server.client, &id, "pause").await?;
    ensure!(server.terminate().await?.success());
    let checkpoints = folders.data().join("jobs").join(&id).join("checkpoints");
    let mut known: Vec<_> = fs::read_dir(&checkpoints)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    known.retain(|path| path.extension().is_none());
    known.sort();
    let newest = known.pop().context("no checkpoint")?;
    let weights = newest.join("parameters.safetensors");
    let mut bytes = fs::read(&weights)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&weights, bytes)?;

    let server = folders.serve().await?;
    done(&server.client, &id, "resume").await?;
    let path = format!("/v1/fine_tuning/jobs/{id}/events?limit=10000");
    let step = |path: &std::path::Path| -> Option<u64> {
        path.file_name()?
            .to_str()?
            .strip_prefix("step-")?
            .parse()
            .ok()
    };
    let refused = format!(
        "The checkpoint of step {} cannot be used",
        step(&newest).context("no step")?
    );
    let before = known.last().context("no older checkpoint")?;
    let resumed = format!(
        "going on from the checkpoint step-{:08}",
        step(before).context("no step")?
    );
    let mut events = String::new();
    for _ in 0..100 {
        events = server.client.get(&path).await?.to_string();
        if events.contains(&refused) && events.contains(&resumed) {
            done(&server.client, &id, "cancel").await?;
            return Ok(());
        }
        sleep(Duration::from_millis(100)).await;
    }
    bail!("{events}")
}
