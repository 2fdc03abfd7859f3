//! Servers that end, well or badly, and what the next one finds.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{model::jsonl, server::Folders};

/// A job that trains for some seconds.
fn long_job() -> Value {
    json!({"training": {"num_train_epochs": 150, "logging_steps": 20, "eval_split": 0.1}})
}

/// The states that the events report, each with its attempt; and the events must be numbered without gaps.
fn states(events: &[(u64, Value)]) -> Vec<(String, u64)> {
    let numbers: Vec<u64> = events.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>());
    events
        .iter()
        .filter_map(|(_, event)| {
            let state = event["data"]["status"].as_str()?.to_owned();
            Some((state, event["data"]["attempt"].as_u64()?))
        })
        .collect()
}

#[tokio::test]
async fn a_killed_server_s_job_is_finished_by_the_next_one() -> Result<()> {
    let folders = Folders::new()?;
    let server = folders.serve().await?;
    let train = server.client.upload("train.jsonl", jsonl(400)).await?;
    let id = server.client.submit(&train, long_job()).await?;
    server.client.wait_for_step(&id, 100).await?;
    server.kill().await?;

    let server = folders.serve().await?;
    let job = server.client.wait(&id, "succeeded").await?;
    assert_eq!(job["attempt"], 2);
    let states = states(&server.client.events(&id).await?);
    let running: Vec<u64> = states
        .iter()
        .filter(|(state, _)| state == "running")
        .map(|(_, attempt)| *attempt)
        .collect();
    assert_eq!(running, [1, 2]);
    assert_eq!(states.last().context("no state")?.0, "succeeded");
    Ok(())
}

#[tokio::test]
async fn a_stopped_server_ends_well_and_its_job_goes_on_later() -> Result<()> {
    let folders = Folders::new()?;
    let server = folders.serve().await?;
    let train = server.client.upload("train.jsonl", jsonl(400)).await?;
    let id = server.client.submit(&train, long_job()).await?;
    server.client.wait_for_step(&id, 100).await?;
    let status = server.terminate().await?;
    assert!(status.success(), "{status}");

    let server = folders.serve().await?;
    server.client.wait(&id, "succeeded").await?;
    let states = states(&server.client.events(&id).await?);
    let names: Vec<&str> = states.iter().map(|(state, _)| state.as_str()).collect();
    assert!(
        names.ends_with(&["running", "queued", "running", "succeeded"]),
        "{names:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_data_directory_serves_one_server() -> Result<()> {
    let folders = Folders::new()?;
    let _first = folders.serve().await?;
    let error = folders
        .serve()
        .await
        .err()
        .context("a second server has started")?;
    assert!(
        error.to_string().contains("first line is \"\""),
        "{error:#}"
    );
    Ok(())
}
