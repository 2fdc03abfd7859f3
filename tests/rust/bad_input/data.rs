//! B27, B46 to B52: files of data.

use anyhow::{Context, Result};
use reqwest::{
    Method,
    multipart::{Form, Part},
};
use serde_json::json;

use super::Fixture;
use crate::model::jsonl;

/// Uploads what is no training data and asks for a job on it, row by row.
async fn refuse_all(rows: &[(&str, &str, Vec<u8>, &str)]) -> Result<()> {
    let fixture = Fixture::start().await?;
    for (number, name, content, message) in rows {
        let id = fixture.client().upload(name, content.clone()).await?;
        let body = fixture.body(json!({"training_file": id}));
        let wanted = (400, Some("training_file"), *message);
        let shown = || format!("{number}: {name}");
        fixture.refuse_job(body, wanted).await.with_context(shown)?;
    }
    Ok(())
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn jsonl_that_cannot_be_trained_on() -> Result<()> {
    let good = jsonl(6);
    let after = |row: &[u8]| [good.as_bytes(), row, b"\n"].concat();
    let one = "{\"text\": \"x\", \"label\": \"good\"}\n";
    refuse_all(&[
        ("B46", "blank.jsonl", "\n\n\n".into(), "row"),
        ("B46", "one.jsonl", one.into(), "at least two classes"),
        (
            "B46",
            "one_class.jsonl",
            one.repeat(5).into(),
            "at least two classes",
        ),
        (
            "B47",
            "torn.jsonl",
            after(b"{\"text\": \"x\", \"lab"),
            "line 7: is not JSON",
        ),
        (
            "B47",
            "no_text.jsonl",
            after(b"{\"label\": \"good\"}"),
            "line 7: has no 'text'",
        ),
        (
            "B47",
            "no_label.jsonl",
            after(b"{\"text\": \"fine\"}"),
            "line 7: has no 'label'",
        ),
        (
            "B47",
            "number.jsonl",
            after(b"{\"text\": 3, \"label\": \"good\"}"),
            "line 7: 'text' must be a string",
        ),
        (
            "B47",
            "label.jsonl",
            after(b"{\"text\": \"x\", \"label\": 1.5}"),
            "line 7: 'label' must be a string or an integer",
        ),
        (
            "B47",
            "lists.jsonl",
            b"[1, 2]\n[3]\n".to_vec(),
            "line 1: is not an object",
        ),
        (
            "B47",
            "many.jsonl",
            after(&b"[]\n".repeat(100)),
            "and 95 more bad lines",
        ),
        (
            "B48",
            "long.jsonl",
            after(&vec![b'x'; 200 << 20]),
            "line 7: is not JSON",
        ),
        (
            "B49",
            "latin.jsonl",
            after(b"{\"text\": \"caf\xe9\", \"label\": \"good\"}"),
            "line 7: is not UTF-8 text",
        ),
        (
            "B49",
            "nul.jsonl",
            after(b"{\"text\": \"a\0b\", \"label\": \"good\"}"),
            "line 7: is not JSON",
        ),
        (
            "B49",
            "deep.jsonl",
            after(&[b"[".repeat(100_000), b"]".repeat(100_000)].concat()),
            "line 7: is not JSON",
        ),
        (
            "B50",
            "messages.jsonl",
            b"{\"messages\": [{\"role\": \"user\"}]}\n".to_vec(),
            "line 1",
        ),
    ])
    .await
}

#[tokio::test]
async fn files_that_are_something_else() -> Result<()> {
    refuse_all(&[
        (
            "B52",
            "x.jsonl",
            b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec(),
            "is compressed",
        ),
        (
            "B52",
            "x.jsonl",
            b"PK\x03\x04\x14\0\0\0\x08\0".to_vec(),
            "is compressed",
        ),
        (
            "B52",
            "x.jsonl",
            b"PAR1\x15\x04\x15\x10PAR1".to_vec(),
            "ends in .parquet",
        ),
        ("B52", "x.jsonl", b"%PDF-1.7\n".to_vec(), "is a PDF"),
        ("B52", "x.parquet", jsonl(4).into(), "arquet"),
        (
            "B52",
            "x.parquet",
            b"PAR1\0\0\0\0\xff\xff\xff\xffPAR1".to_vec(),
            "arquet",
        ),
        (
            "B47",
            "header.csv",
            b"label,txt\ngood,fine\n".to_vec(),
            "text",
        ),
        (
            "B47",
            "short.csv",
            b"label,text\ngood,fine\nbad\n".to_vec(),
            "line 3",
        ),
    ])
    .await
}

/// B49: what other machines write at the ends of lines and at the start of files.
#[tokio::test]
async fn jsonl_of_other_machines() -> Result<()> {
    let fixture = Fixture::start().await?;
    let rows = jsonl(20);
    for content in [
        rows.replace('\n', "\r\n"),
        format!("\u{feff}{rows}"),
        rows.trim_end().to_owned(),
    ] {
        let id = fixture.client().upload("x.jsonl", content).await?;
        let (status, job) = fixture
            .client()
            .create(&fixture.body(json!({"training_file": id})))
            .await?;
        assert_eq!(status.as_u16(), 200, "{job}");
    }
    Ok(())
}

/// B48: a long text is cut to what the model takes.
#[tokio::test]
async fn one_long_line() -> Result<()> {
    let fixture = Fixture::start().await?;
    let long = "the film is good ".repeat((20 << 20) / 17);
    let rows = format!("{}{}\n", jsonl(20), json!({"text": long, "label": "good"}));
    let id = fixture.client().upload("x.jsonl", rows).await?;
    let job = fixture
        .client()
        .submit(&id, json!({"training": {"max_steps": 1}}))
        .await?;
    fixture.client().wait(&job, "succeeded").await?;
    Ok(())
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

/// B27.
#[tokio::test]
async fn files_that_a_job_cannot_name() -> Result<()> {
    let fixture = Fixture::start().await?;
    let client = fixture.client();
    let part = Part::bytes(jsonl(10).into_bytes()).file_name("x.jsonl");
    let form = Form::new().text("purpose", "batch").part("file", part);
    let file = client
        .json(client.request(Method::POST, "/v1/files").multipart(form))
        .await?;
    let gone = client.upload("gone.jsonl", jsonl(10)).await?;
    client
        .json(client.request(Method::DELETE, &format!("/v1/files/{gone}")))
        .await?;
    for param in ["training_file", "validation_file"] {
        let body = fixture.body(json!({param: file["id"]}));
        fixture
            .refuse_job(body, (400, Some(param), "files with purpose 'fine-tune'"))
            .await?;
        let body = fixture.body(json!({param: gone}));
        fixture
            .refuse_job(body, (400, Some(param), "does not exist"))
            .await?;
    }
    Ok(())
}
