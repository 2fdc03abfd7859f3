//! B46, B52, B53: the forms and the parts that bring files.

use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::{
    Method, RequestBuilder,
    multipart::{Form, Part},
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::sleep};

use super::{Fixture, raw};

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

/// B53: parts that are longer than a part or its upload may be.
#[tokio::test]
async fn uploads_in_parts_that_do_not_fit() -> Result<()> {
    let fixture = Fixture::start().await?;
    let body = json!({"bytes": 10, "filename": "x.jsonl", "mime_type": "text/jsonl", "purpose": "fine-tune"});
    let begin = fixture.post("/v1/uploads", body.to_string());
    let client = fixture.client();
    let upload = client.json(begin).await?;
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
    fixture.refuse(add(11), (400, Some("data"), "10")).await
}
