//! B46, B52, B53: the forms and the parts that bring files.

use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::{
    Method, RequestBuilder,
    multipart::{Form, Part},
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::sleep};

use super::{Fixture, Wanted, raw};

/// A field of a form: name, file name (empty = none), content.
type Field<'a> = (&'a str, &'a str, &'a str);

/// Number, the form's fields, param, a part of the message.
const FORMS: [(&str, &[Field<'_>], &str, &str); 9] = [
    (
        "B46",
        &[("purpose", "", "fine-tune"), ("file", "x.jsonl", "")],
        "file",
        "'file' is empty",
    ),
    (
        "B53",
        &[("file", "x.jsonl", "{}\n")],
        "purpose",
        "missing required parameter: 'purpose'",
    ),
    (
        "B53",
        &[("purpose", "", "fine-tune")],
        "file",
        "missing required parameter: 'file'",
    ),
    (
        "B53",
        &[("purpose", "", "fine-tune"), ("file", "", "{}\n")],
        "file",
        "must be a file with a name",
    ),
    (
        "B53",
        &[("purpose", "", "fun"), ("file", "x.jsonl", "{}\n")],
        "purpose",
        "must be one of fine-tune",
    ),
    (
        "B53",
        &[("purpse", "", "fine-tune"), ("file", "x.jsonl", "{}\n")],
        "purpse",
        "unknown parameter",
    ),
    (
        "B53",
        &[
            ("purpose", "", "fine-tune"),
            ("purpose", "", "batch"),
            ("file", "x.jsonl", "{}\n"),
        ],
        "purpose",
        "only once",
    ),
    (
        "B53",
        &[
            ("purpose", "", "fine-tune"),
            ("file", "x.jsonl", "{}\n"),
            ("file", "y.jsonl", "{}\n"),
        ],
        "file",
        "only once",
    ),
    (
        "B53",
        &[
            ("purpose", "", "fine-tune"),
            ("expires_after[anchor]", "", "created_at"),
            ("expires_after[seconds]", "", "1"),
            ("file", "x.jsonl", "{}\n"),
        ],
        "expires_after[seconds]",
        "3600 to 2592000",
    ),
];

#[tokio::test]
async fn forms_that_are_refused() -> Result<()> {
    let fixture = Fixture::start().await?;
    for (number, fields, param, message) in FORMS {
        let mut form = Form::new();
        for (name, filename, content) in fields {
            let part = Part::text(*content);
            let part = if filename.is_empty() {
                part
            } else {
                part.file_name(*filename)
            };
            form = form.part(*name, part);
        }
        let request = fixture
            .client()
            .request(Method::POST, "/v1/files")
            .multipart(form);
        fixture
            .refuse(request, (400, Some(param), message))
            .await
            .context(number)?;
    }
    Ok(())
}

/// Forms that only bytes can say.
#[tokio::test]
async fn forms_that_are_none() -> Result<()> {
    let fixture = Fixture::start().await?;
    let send = |content_type: &str, body: Vec<u8>| {
        let request = fixture.client().request(Method::POST, "/v1/files");
        request.header("content-type", content_type).body(body)
    };
    let head = "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n";
    let headers: String = (0..1000).map(|i| format!("X-{i}: x\r\n")).collect();
    let fields =
        "--x\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n".repeat(10_000);
    let long = format!("multipart/form-data; boundary={}", "x".repeat(20_000));
    let form = "multipart/form-data; boundary=x";
    for (content_type, body) in [
        ("multipart/form-data", b"--x--\r\n".to_vec()),
        ("multipart/form-data; boundary=", b"--\r\n".to_vec()),
        (&long[..], b"--x--\r\n".to_vec()),
        (form, Vec::new()),
        (form, b"x".repeat(100_000)),
        (form, format!("{head}\r\nbody without an end").into()),
        (form, format!("{head}{headers}\r\nx\r\n--x--\r\n").into()),
        (
            form,
            format!("{head}X: {}\r\n\r\nx\r\n--x--\r\n", "x".repeat(1 << 20)).into(),
        ),
        (form, format!("{fields}--x--\r\n").into()),
        (form, b"--x\r\n\r\n\r\n--x--\r\n".to_vec()),
    ] {
        let shown = format!(
            "{:.40}: {:.60}",
            content_type,
            String::from_utf8_lossy(&body)
        );
        let before = fixture.state().await?;
        let answer = send(content_type, body).send().await?;
        assert_eq!(answer.status().as_u16(), 400, "{shown}");
        let error: Value = answer.json().await?;
        assert!(error["error"]["message"].is_string(), "{shown}");
        assert_eq!(fixture.state().await?, before, "{shown}");
    }
    Ok(())
}

/// B52.
#[tokio::test]
async fn compressed_bodies() -> Result<()> {
    let fixture = Fixture::start().await?;
    for path in ["/v1/files", super::JOBS, "/v1/uploads"] {
        for encoding in ["gzip", "br", "deflate, gzip"] {
            let request = fixture.post(path, "x").header("content-encoding", encoding);
            fixture.refuse(request, (415, None, "uncompressed")).await?;
        }
    }
    Ok(())
}

/// B53: bodies that are longer or shorter than they say, or than they may be.
#[tokio::test]
async fn uploads_of_another_length() -> Result<()> {
    let fixture = Fixture::start().await?;
    let addr = &fixture.client().addr;
    let before = fixture.state().await?;
    let head = |length: u64| {
        format!(
            "POST /v1/files HTTP/1.1\r\nHost: {addr}\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let part = "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\ntext";
    {
        let mut line = TcpStream::connect(addr).await?;
        line.write_all(format!("{}{part}", head(1000)).as_bytes())
            .await?;
        line.shutdown().await?;
        let answer = raw::answer(&mut line).await?;
        assert!(answer.is_none_or(|answer| answer.status == 400));
    }
    let answer = raw::exchange(addr, format!("{}{part}", head(40)).as_bytes()).await?;
    assert_eq!(answer.context("no answer")?.status, 400);
    let answer = raw::exchange(addr, head(600 << 20).as_bytes()).await?;
    let answer = answer.context("no answer")?;
    assert_eq!(
        (answer.status, answer.error()?.0.as_deref()),
        (413, Some("file"))
    );
    sleep(Duration::from_millis(200)).await;
    assert_eq!(fixture.state().await?, before);
    Ok(())
}

/// B53: uploads in parts, whose length and sum were told before.
#[tokio::test]
async fn uploads_in_parts_that_do_not_fit() -> Result<()> {
    let fixture = Fixture::start().await?;
    let begin = |field: &str, value: Value| {
        let mut body = json!({"bytes": 10, "filename": "x.jsonl", "mime_type": "text/jsonl", "purpose": "fine-tune"});
        body[field] = value;
        fixture.post("/v1/uploads", body.to_string())
    };
    let rows: [(&str, Value, &str); 7] = [
        ("bytes", json!(0), "bytes"),
        ("bytes", json!(-1), "bytes"),
        ("bytes", json!(9u64 << 30), "bytes"),
        ("bytes", json!("10"), "bytes"),
        ("purpose", json!("fun"), "purpose"),
        ("filename", json!(null), "filename"),
        ("size", json!(1), "unknown parameter"),
    ];
    for (field, value, message) in rows {
        let wanted: Wanted<'_> = (400, Some(field), message);
        fixture.refuse(begin(field, value), wanted).await?;
    }
    let client = fixture.client();
    let upload = client.json(begin("bytes", json!(10))).await?;
    let path = format!("/v1/uploads/{}", upload["id"].as_str().context("no id")?);
    let add = |bytes: usize| -> RequestBuilder {
        let part = Part::bytes(vec![b'x'; bytes]).file_name("part");
        client
            .request(Method::POST, &format!("{path}/parts"))
            .multipart(Form::new().part("data", part))
    };
    let too_large = (413, Some("data"), "67108864");
    fixture.refuse(add((64 << 20) + 1), too_large).await?;
    fixture.refuse(add(0), (400, Some("data"), "empty")).await?;
    fixture.refuse(add(11), (400, Some("data"), "10")).await?;
    let part = client.json(add(10)).await?;
    let complete = |parts: Value, md5: &str| {
        fixture.post(
            &format!("{path}/complete"),
            json!({"part_ids": parts, "md5": md5}).to_string(),
        )
    };
    let wrong = "0".repeat(32);
    fixture
        .refuse(
            complete(json!([part["id"]]), &wrong),
            (400, Some("md5"), "MD5"),
        )
        .await?;
    fixture
        .refuse(
            complete(json!([]), &wrong),
            (400, Some("part_ids"), "part_ids"),
        )
        .await?;
    fixture
        .refuse(
            complete(json!(["part-none"]), &wrong),
            (400, Some("part_ids"), "part-none"),
        )
        .await
}
