//! B28, B62, B91 to B94: what the state of a thing does not allow. B90, every action in every state, stands with the life of a job.

use anyhow::{Context, Result};
use reqwest::{
    Method, StatusCode,
    multipart::{Form, Part},
};
use serde_json::json;

use super::{Fixture, JOBS};
use crate::{client::answer, model::write_tiny_bert};

/// B62: a model whose weights are no numbers fails its job, with a sentence.
#[tokio::test]
async fn a_model_whose_weights_are_no_numbers() -> Result<()> {
    let fixture = Fixture::start().await?;
    let folder = fixture.folders.models().join("acme/wild");
    write_tiny_bert(&folder)?;
    let weights = folder.join("model.safetensors");
    let mut bytes = std::fs::read(&weights)?;
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into()?) as usize;
    for value in bytes[header..].chunks_exact_mut(4) {
        value.copy_from_slice(&f32::NAN.to_le_bytes());
    }
    std::fs::write(&weights, bytes)?;
    let body = fixture.body(json!({"model": "acme/wild"}));
    let (status, job) = fixture.client().create(&body).await?;
    assert_eq!(status, StatusCode::OK, "{job}");
    let id = job["id"].as_str().context("no id")?;
    let job = fixture.client().wait(id, "failed").await?;
    assert_eq!(job["error"]["code"], "non_finite", "{job}");
    Ok(())
}

/// B91.
#[tokio::test]
async fn what_is_in_use_is_not_deleted() -> Result<()> {
    let fixture = Fixture::start().await?;
    let client = fixture.client();
    let first = client
        .submit(&fixture.train, json!({"training": {"max_steps": 1}}))
        .await?;
    let made = client.wait(&first, "succeeded").await?;
    let model = made["fine_tuned_model"].as_str().context("no model")?;
    let body = json!({"model": model, "training_file": fixture.train, "training": {"num_train_epochs": 10_000}});
    let (status, job) = client.create(&body).await?;
    assert_eq!(status, StatusCode::OK, "{job}");
    let job = job["id"].as_str().context("no id")?;
    client.wait(job, "running").await?;
    for (path, code) in [
        (format!("/v1/files/{}", fixture.train), "file_in_use"),
        (format!("/v1/models/{model}"), "model_in_use"),
        (format!("{JOBS}/{first}"), "model_in_use"),
    ] {
        let (status, body) = answer(client.request(Method::DELETE, &path)).await?;
        let error = &body["error"];
        assert_eq!(
            (status.as_u16(), &error["code"]),
            (400, &json!(code)),
            "{path}: {body}"
        );
        assert!(
            error["message"]
                .as_str()
                .is_some_and(|text| text.contains(job)),
            "{body}"
        );
    }
    Ok(())
}

/// B92.
#[tokio::test]
async fn two_deletions_at_once() -> Result<()> {
    let fixture = Fixture::start().await?;
    let client = fixture.client();
    let job = client
        .submit(&fixture.train, json!({"training": {"max_steps": 1}}))
        .await?;
    client.wait(&job, "succeeded").await?;
    for path in [
        format!("{JOBS}/{job}"),
        format!("/v1/files/{}", fixture.train),
    ] {
        let delete = || answer(client.request(Method::DELETE, &path));
        let (one, two) = tokio::join!(delete(), delete());
        let mut statuses = [one?.0.as_u16(), two?.0.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 404], "{path}");
    }
    Ok(())
}

/// B94.
#[tokio::test]
async fn an_upload_that_is_completed_twice() -> Result<()> {
    let fixture = Fixture::start().await?;
    let client = fixture.client();
    let content = crate::model::jsonl(4);
    let body = json!({"bytes": content.len(), "filename": "x.jsonl", "mime_type": "text/jsonl", "purpose": "fine-tune"});
    let upload = client
        .json(client.request(Method::POST, "/v1/uploads").json(&body))
        .await?;
    let path = format!("/v1/uploads/{}", upload["id"].as_str().context("no id")?);
    let part = Form::new().part("data", Part::bytes(content.into_bytes()).file_name("part"));
    let part = client
        .json(
            client
                .request(Method::POST, &format!("{path}/parts"))
                .multipart(part),
        )
        .await?;
    let complete = |parts: serde_json::Value| {
        let request = client.request(Method::POST, &format!("{path}/complete"));
        answer(request.json(&json!({"part_ids": parts})))
    };
    let (_, first) = complete(json!([part["id"]])).await?;
    let (status, again) = complete(json!([part["id"]])).await?;
    assert_eq!((status, &again), (StatusCode::OK, &first));
    let (status, other) = complete(json!(["part-none"])).await?;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{other}");
    let cancel = client.request(Method::POST, &format!("{path}/cancel"));
    let (status, body) = answer(cancel).await?;
    assert_eq!(
        (status.as_u16(), &body["error"]["code"]),
        (400, &json!("invalid_state"))
    );
    let files = client.get("/v1/files").await?;
    assert_eq!(files["data"].as_array().map(Vec::len), Some(2));
    Ok(())
}
