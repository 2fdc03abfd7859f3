//! B37 to B45: paths and ids. They are written by hand, since HTTP clients tidy paths up.

use anyhow::{Context, Result};
use reqwest::{
    Method, StatusCode,
    multipart::{Form, Part},
};
use serde_json::json;

use super::{Fixture, JOBS, raw, rows};
use crate::model::jsonl;

/// Number, method, path, status, param (- = none), a part of the message. JOB and FILE stand for what there is.
const PATHS: &str = r#"
B37 | GET | /v1/fine_tuning/jobs/../../etc/passwd | 404 | - | no such route
B37 | GET | /../../../../etc/passwd/../v1 | 200 | - | -
B37 | GET | /v1/../etc/passwd | 404 | - | no such route
B38 | GET | /v1/fine_tuning/jobs/%2e%2e%2f%2e%2e%2fetc%2fpasswd | 404 | id | no such fine-tuning job: '../../etc/passwd'
B38 | GET | /v1/files/%2e%2e/content | 404 | id | no such file: '..'
B38 | DELETE | /v1/files/%2e%2e%2ftaper.db | 404 | id | no such file: '../taper.db'
B38 | GET | /v1/models/%2e%2e%2f%2e%2e%2fetc | 404 | model | ../../etc
B38 | DELETE | /v1/models/%2e%2e%2fdata | 404 | model | ../data
B38 | GET | /v1/fine_tuning/jobs/JOB/artifacts/%2e%2e%2f%2e%2e%2ftaper.db | 404 | path | no such artifact
B38 | GET | /v1/fine_tuning/jobs/JOB/artifacts/../../../taper.db | 404 | path | no such artifact
B39 | GET | /v1/fine_tuning/jobs/%252e%252e%252fetc | 404 | id | no such fine-tuning job: '%2e%2e%2fetc'
B39 | GET | /v1/fine_tuning/jobs/JOB/artifacts/%252e%252e%252ftaper.db | 404 | path | no such artifact
B40 | GET | /v1/files/..\..\taper.db | 404 | id | no such file
B40 | GET | /v1/files/%2e%2e%5c%2e%2e%5ctaper.db | 404 | id | no such file
B41 | GET | /v1/files//etc/passwd | 404 | - | no such route
B41 | GET | /v1/files/%2fetc%2fpasswd | 404 | id | no such file: '/etc/passwd'
B41 | GET | /v1/models//etc/passwd | 404 | model | /etc/passwd
B42 | GET | /v1/files/FILE%00.safetensors | 404 | id | no such file
B42 | GET | /v1/fine_tuning/jobs/JOB/artifacts/%00 | 404 | path | no such artifact
B43 | GET | /v1/files/%c0%ae%c0%ae | 400 | - | the path cannot be read
B43 | GET | /v1/models/%ff | 400 | - | the path cannot be read
B44 | GET | /v1/fine_tuning/jobs/ftJoB-1 | 404 | id | no such fine-tuning job: 'ftJoB-1'
B44 | GET | /v1/files/%7BFILE%7D | 404 | id | no such file
B44 | GET | /v1/files/-1 | 404 | id | no such file: '-1'
B44 | GET | /v1/files/0x10 | 404 | id | no such file: '0x10'
B44 | POST | /v1/fine_tuning/jobs/ftjob-none/cancel | 404 | id | no such fine-tuning job: 'ftjob-none'
B45 | GET | /v1/files/FILE. | 404 | id | no such file
B45 | GET | /v1/files/FILE%20 | 404 | id | no such file
B45 | GET | /v1/files/CON | 404 | id | no such file: 'CON'
B45 | GET | /v1/files/. | 404 | id | no such file: '.'
B45 | DELETE | /v1/files/%20 | 404 | id | no such file
"#;

#[tokio::test]
async fn paths_that_lead_nowhere() -> Result<()> {
    let fixture = Fixture::start().await?;
    let job = fixture
        .client()
        .submit(&fixture.train, json!({"training": {"max_steps": 1}}))
        .await?;
    fixture.client().wait(&job, "succeeded").await?;
    let before = fixture.state().await?;
    for [number, method, path, status, param, message] in rows(PATHS) {
        let path = path.replace("JOB", &job).replace("FILE", &fixture.train);
        refuse(&fixture, method, &path, (status.parse()?, param, message))
            .await
            .with_context(|| format!("{number}: {path}"))?;
    }
    let long = format!("{JOBS}/{}", "x".repeat(8192));
    refuse(
        &fixture,
        "GET",
        &long,
        (404, "id", "no such fine-tuning job: 'xxx"),
    )
    .await?;
    assert_eq!(fixture.state().await?, before);
    Ok(())
}

async fn refuse(
    fixture: &Fixture,
    method: &str,
    path: &str,
    wanted: (u16, &str, &str),
) -> Result<()> {
    let addr = &fixture.client().addr;
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    let answer = raw::exchange(addr, request.as_bytes()).await?;
    let answer = answer.context("no answer")?;
    assert_eq!(answer.status, wanted.0, "{answer:?}");
    if wanted.0 == 200 {
        // The page, which the server has in itself.
        assert!(
            answer.header("content-type").starts_with("text/html"),
            "{answer:?}"
        );
        return Ok(());
    }
    let (param, message) = answer.error()?;
    assert_eq!(param.as_deref().unwrap_or("-"), wanted.1, "{message}");
    assert!(message.contains(wanted.2), "{message}");
    Ok(())
}

/// B45: the name of a file is shown and is no path.
#[tokio::test]
async fn names_of_uploads() -> Result<()> {
    let fixture = Fixture::start().await?;
    for (given, kept) in [
        ("../../x.jsonl", "x.jsonl"),
        ("/etc/passwd", "passwd"),
        ("C:\\x.jsonl", "x.jsonl"),
        ("..", "file"),
        ("CON", "CON"),
        ("x.jsonl. ", "x.jsonl."),
    ] {
        let part = Part::bytes(jsonl(2).into_bytes()).file_name(given);
        let form = Form::new().text("purpose", "fine-tune").part("file", part);
        let request = fixture
            .client()
            .request(Method::POST, "/v1/files")
            .multipart(form);
        let (status, file) = crate::client::answer(request).await?;
        assert_eq!(
            (status, &file["filename"]),
            (StatusCode::OK, &json!(kept)),
            "{given}"
        );
        let id = file["id"].as_str().context("no id")?;
        assert!(
            fixture.folders.data().join("files").join(id).is_file(),
            "{given}"
        );
    }
    Ok(())
}
