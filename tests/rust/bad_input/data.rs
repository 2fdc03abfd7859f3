use anyhow::{Context, Result};
use reqwest::{
    Method,
    multipart::{Form, Part},
};
use serde_json::json;

use super::{Fixture, Wanted};
use crate::model::jsonl;

/// Uploads what is no training data and asks for a job on it, row by row.
async fn refuse_all(rows: &[(&str, String, &str)]) -> Result<()> {
    let fixture = Fixture::start().await?;
    for (name, content, message) in rows {
        let id = fixture.client().upload(name, content.clone()).await?;
        let body = fixture.body(json!({"training_file": id}));
        let wanted = (400, Some("training_file"), *message);
        fixture
            .refuse_job(body, wanted)
            .await
            .with_context(|| name.to_string())?;
    }
    Ok(())
}

#[tokio::test]
async fn jsonl_that_cannot_be_trained_on() -> Result<()> {
    let good = jsonl(6);
    refuse_all(&[
        (
            "torn.jsonl",
            format!("{good}{{\"text\": \"x\", \"lab"),
            "line 7",
        ),
        (
            "no_text.jsonl",
            format!("{good}{{\"label\": \"good\"}}\n"),
            "line 7",
        ),
        (
            "no_label.jsonl",
            format!("{good}{{\"text\": \"fine\"}}\n"),
            "line 7",
        ),
        (
            "number.jsonl",
            format!("{{\"text\": 3, \"label\": \"good\"}}\n{good}"),
            "line 1",
        ),
        ("lists.jsonl", "[1, 2]\n[3]\n".to_owned(), "line 1"),
        (
            "one_class.jsonl",
            "{\"text\": \"x\", \"label\": \"good\"}\n".repeat(5),
            "at least two classes",
        ),
        ("blank.jsonl", "\n\n\n".to_owned(), "row"),
    ])
    .await
}

#[tokio::test]
async fn csv_that_cannot_be_trained_on() -> Result<()> {
    refuse_all(&[
        ("header.csv", "label,txt\ngood,fine\n".to_owned(), "text"),
        (
            "short.csv",
            "label,text\ngood,fine\nbad\n".to_owned(),
            "line 3",
        ),
    ])
    .await
}

#[tokio::test]
async fn a_label_that_only_the_validation_file_has() -> Result<()> {
    let fixture = Fixture::start().await?;
    let other = "{\"text\": \"x\", \"label\": \"middling\"}\n";
    let id = fixture.client().upload("other.jsonl", other).await?;
    let body = fixture.body(json!({"validation_file": id}));
    let wanted = (400, Some("validation_file"), "middling");
    fixture.refuse_job(body, wanted).await
}

#[tokio::test]
async fn uploads_that_are_refused() -> Result<()> {
    let fixture = Fixture::start().await?;
    let part = |content: &str| Part::bytes(content.as_bytes().to_vec()).file_name("x.jsonl");
    let rows: [(Form, Wanted<'_>); 5] = [
        (
            Form::new()
                .text("purpose", "fine-tune")
                .part("file", part("")),
            (400, Some("file"), "empty"),
        ),
        (
            Form::new().part("file", part("{}\n")),
            (400, Some("purpose"), "purpose"),
        ),
        (
            Form::new().text("purpose", "fine-tune"),
            (400, Some("file"), "file"),
        ),
        (
            Form::new()
                .text("purpose", "fun")
                .part("file", part("{}\n")),
            (400, Some("purpose"), "fine-tune"),
        ),
        (
            Form::new()
                .text("purpse", "fine-tune")
                .part("file", part("{}\n")),
            (400, Some("purpse"), "purpse"),
        ),
    ];
    for (form, wanted) in rows {
        let request = fixture
            .client()
            .request(Method::POST, "/v1/files")
            .multipart(form);
        fixture.refuse(request, wanted).await?;
    }
    let request = fixture
        .client()
        .request(Method::POST, "/v1/files")
        .json(&json!({}));
    fixture
        .refuse(request, (415, None, "multipart/form-data"))
        .await
}

#[tokio::test]
async fn a_file_of_another_purpose() -> Result<()> {
    let fixture = Fixture::start().await?;
    let part = Part::bytes(jsonl(10).into_bytes()).file_name("x.jsonl");
    let form = Form::new().text("purpose", "batch").part("file", part);
    let file = fixture
        .client()
        .json(
            fixture
                .client()
                .request(Method::POST, "/v1/files")
                .multipart(form),
        )
        .await?;
    let body = fixture.body(json!({"training_file": file["id"]}));
    fixture
        .refuse_job(body, (400, Some("training_file"), "fine-tune"))
        .await
}
