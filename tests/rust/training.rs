//! Jobs from upload to download.

use std::{
    collections::BTreeSet,
    io::{Cursor, Read},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use reqwest::Method;
use safetensors::SafeTensors;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use zip::ZipArchive;

use crate::{
    model::{csv, jsonl},
    server::Folders,
};

/// The unpacked `adapter.zip` or `model.zip` of a job, each file checked against the list of artifacts.
async fn download(
    client: &crate::client::Client,
    job: &str,
    prefix: &str,
) -> Result<Vec<(String, Vec<u8>)>> {
    let list = client
        .get(&format!("/v1/fine_tuning/jobs/{job}/artifacts"))
        .await?;
    let zipped = client
        .bytes(&format!("/v1/fine_tuning/jobs/{job}/{prefix}.zip"))
        .await?;
    let mut archive = ZipArchive::new(Cursor::new(zipped))?;
    let mut files = Vec::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index)?;
        let name = entry.name()?.into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        files.push((name, content));
    }
    let sums: BTreeSet<_> = files
        .iter()
        .map(|(name, content)| {
            (
                format!("{prefix}/{name}"),
                format!("{:x}", Sha256::digest(content)),
            )
        })
        .collect();
    let listed = list["data"].as_array().context("no list")?.iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let listed: BTreeSet<_> = listed
        .map(|file| (text(&file["path"]), text(&file["sha256"])))
        .filter(|(path, _)| path.starts_with(prefix))
        .collect();
    assert_eq!(sums, listed);
    Ok(files)
}

fn find<'a>(files: &'a [(String, Vec<u8>)], name: &str) -> Result<&'a [u8]> {
    let file = files.iter().find(|(path, _)| path == name);
    Ok(&file.with_context(|| format!("no file {name}"))?.1)
}

#[tokio::test]
async fn lora_from_jsonl_to_an_adapter() -> Result<()> {
    let folders = Folders::new()?;
    let server = folders.serve().await?;
    let client = &server.client;
    let train = client.upload("train.jsonl", jsonl(400)).await?;
    let valid = client.upload("valid.jsonl", jsonl(41)).await?;
    let id = client
        .submit(
            &train,
            json!({
                "validation_file": valid,
                "tuning": {"type": "lora", "r": 4, "lora_alpha": 8},
                "training": {"num_train_epochs": 16, "learning_rate": 1e-2},
            }),
        )
        .await?;
    let job = client.wait(&id, "succeeded").await?;
    let accuracy = job["metrics"]["valid_accuracy"]
        .as_f64()
        .context("no accuracy")?;
    assert!(accuracy > 0.85, "accuracy {accuracy}");
    assert_eq!(job["metrics"]["step"], 400);

    let files = download(client, &id, "adapter").await?;
    let weights = SafeTensors::deserialize(find(&files, "adapter_model.safetensors")?)?;
    let names: BTreeSet<_> = weights.names().into_iter().collect();
    let mut wanted = BTreeSet::new();
    for layer in 0..2 {
        for (part, matrix) in [
            ("query", "A"),
            ("query", "B"),
            ("value", "A"),
            ("value", "B"),
        ] {
            wanted.insert(format!(
                "base_model.model.bert.encoder.layer.{layer}.attention.self.{part}.lora_{matrix}.weight"
            ));
        }
    }
    wanted.extend(["weight", "bias"].map(|part| format!("base_model.model.classifier.{part}")));
    assert_eq!(names, wanted.iter().map(String::as_str).collect());
    let config: Value = serde_json::from_slice(find(&files, "adapter_config.json")?)?;
    assert_eq!(
        (&config["r"], &config["task_type"]),
        (&json!(4), &json!("SEQ_CLS"))
    );
    find(&files, "tokenizer.json")?;
    find(&files, "README.md")?;

    let path = format!("/v1/fine_tuning/jobs/{id}/model.zip");
    let refused = client.request(Method::GET, &path).send().await?;
    assert_eq!(refused.status(), 400);
    let error = &refused.json::<Value>().await?["error"];
    assert_eq!(error["code"], "invalid_state");
    let message = error["message"].as_str().context("no message")?;
    assert!(message.contains("adapter.zip"), "{message}");
    Ok(())
}

#[tokio::test]
async fn full_from_csv_to_a_model_that_can_be_tuned_again() -> Result<()> {
    let folders = Folders::new()?;
    let server = folders.serve().await?;
    let client = &server.client;
    let train = client.upload("train.csv", csv(150)).await?;
    let id = client
        .submit(
            &train,
            json!({
                "tuning": {"type": "full"},
                "training": {"num_train_epochs": 8, "learning_rate": 5e-3, "eval_split": 0.2},
            }),
        )
        .await?;
    let job = client.wait(&id, "succeeded").await?;
    assert_eq!(
        (
            &job["plan"]["training_rows"],
            &job["plan"]["validation_rows"]
        ),
        (&json!(120), &json!(30))
    );
    let accuracy = job["metrics"]["valid_accuracy"]
        .as_f64()
        .context("no accuracy")?;
    assert!(accuracy > 0.9, "accuracy {accuracy}");

    let files = download(client, &id, "model").await?;
    let weights = SafeTensors::deserialize(find(&files, "model.safetensors")?)?;
    assert_eq!(weights.tensor("classifier.weight")?.shape(), [2, 32]);
    let config: Value = serde_json::from_slice(find(&files, "config.json")?)?;
    assert_eq!(config["id2label"], json!({"0": "bad", "1": "good"}));

    let path = |name: &str| format!("/v1/fine_tuning/jobs/{id}/{name}.zip");
    // Clients that know only the older name get the model by it, too.
    assert_eq!(
        client.bytes(&path("adapter")).await?,
        client.bytes(&path("model")).await?
    );

    let again = folders.models().join("again");
    std::fs::create_dir(&again)?;
    for (name, content) in &files {
        std::fs::write(again.join(name), content)?;
    }
    let body = json!({"model": "again", "training_file": train, "training": {"max_steps": 2}});
    let (status, job) = client.create(&body).await?;
    assert_eq!(status, 200, "{job}");
    client
        .wait(job["id"].as_str().context("no id")?, "succeeded")
        .await?;
    Ok(())
}

#[tokio::test]
async fn cancel_stops_a_running_job_within_two_seconds() -> Result<()> {
    let folders = Folders::new()?;
    let server = folders.serve().await?;
    let client = &server.client;
    let train = client.upload("train.jsonl", jsonl(400)).await?;
    let id = client
        .submit(&train, json!({"training": {"num_train_epochs": 10000}}))
        .await?;
    client.wait_for_step(&id, 10).await?;
    let began = Instant::now();
    let path = format!("/v1/fine_tuning/jobs/{id}/cancel");
    let job = client.json(client.request(Method::POST, &path)).await?;
    assert_eq!(job["status"], "cancelled");
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );

    let next = client
        .submit(&train, json!({"training": {"max_steps": 1}}))
        .await?;
    client.wait(&next, "succeeded").await?;
    Ok(())
}
