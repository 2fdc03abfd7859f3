//! B65 to B79: what is wrong with the HTTP itself.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{Fixture, JOBS, raw};

/// Number, what is sent, the status; 0 = the line is closed without an answer. HOST stands for the server's address.
const BYTES: [(&str, &str, u16); 24] = [
    (
        "B65",
        "POST /v1/files HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n123456",
        400,
    ),
    (
        "B65",
        "POST /v1/files HTTP/1.1\r\nHost: HOST\r\nContent-Length: -1\r\n\r\n",
        400,
    ),
    (
        "B65",
        "POST /v1/files HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1e3\r\n\r\n",
        400,
    ),
    (
        "B65",
        "POST /v1/files HTTP/1.1\r\nHost: HOST\r\nContent-Length: 99999999999999999999\r\n\r\n",
        400,
    ),
    (
        "B65",
        "POST /v1/files HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: gzip\r\n\r\n",
        400,
    ),
    (
        "B65",
        "POST /v1/files HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked, x\r\n\r\n",
        400,
    ),
    (
        "B65",
        "POST /v1/files HTTP/1.0\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "B65",
        "POST /v1/fine_tuning/jobs HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n{}\r\n0\r\n\r\n",
        400,
    ),
    (
        "B65",
        "POST /v1/fine_tuning/jobs HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n{}\r\n0\r\n\r\n",
        400,
    ),
    (
        "B65",
        "POST /v1/fine_tuning/jobs HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}xx\r\n0\r\n\r\n",
        400,
    ),
    (
        "B67",
        "GET /v1/files HTTP/1.1\r\nHost: HOST\r\nX: a\nOrigin: http://evil\r\n\r\n",
        403,
    ),
    (
        "B67",
        "GET /v1/files HTTP/1.1\r\nHost: HOST\r\nX: a\rb\r\n\r\n",
        400,
    ),
    (
        "B67",
        "GET /v1/files HTTP/1.1\r\nHost: HOST\r\nX : a\r\n\r\n",
        400,
    ),
    (
        "B67",
        "GET /v1/files HTTP/1.1\r\nHost: HOST\r\nX: a\0b\r\n\r\n",
        400,
    ),
    ("B68", "CONNECT HOST HTTP/1.1\r\nHost: HOST\r\n\r\n", 404),
    (
        "B68",
        "CONNECT evil.com:443 HTTP/1.1\r\nHost: HOST\r\n\r\n",
        421,
    ),
    ("B69", "GET /\r\n", 400),
    ("B69", "GET / HTTP/1.0\r\n\r\n", 421),
    ("B69", "GET / HTTP/1.1\r\n\r\n", 421),
    ("B69", "GET / HTTP/9.9\r\nHost: HOST\r\n\r\n", 400),
    ("B69", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0),
    ("B69", "\x16\x03\x01\x02\x00\x01\x00\x01\x7f\x03\x03", 400),
    ("B69", "\0\0\0\0\r\n\r\n", 400),
    (
        "B71",
        "GET http://evil.com/v1/files HTTP/1.1\r\nHost: HOST\r\n\r\n",
        421,
    ),
];

#[tokio::test]
async fn requests_that_are_none() -> Result<()> {
    let fixture = Fixture::start().await?;
    let addr = &fixture.client().addr;
    let before = fixture.state().await?;
    for (number, bytes, status) in BYTES {
        let request = bytes.replace("HOST", addr);
        let answer = raw::exchange(addr, request.as_bytes()).await?;
        let got = answer.map_or(0, |answer| answer.status);
        assert_eq!(got, status, "{number}: {bytes:?}");
        assert_eq!(fixture.state().await?, before, "{number}: {bytes:?}");
    }
    Ok(())
}

/// B65: where a body ends is told twice; whoever stands between could read it otherwise.
#[tokio::test]
async fn a_body_with_two_ends() -> Result<()> {
    let fixture = Fixture::start().await?;
    let addr = &fixture.client().addr;
    for headers in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
    ] {
        let inner = format!(
            "DELETE /v1/files/{} HTTP/1.1\r\nHost: {addr}\r\n\r\n",
            fixture.train
        );
        let request = format!(
            "POST {JOBS} HTTP/1.1\r\nHost: {addr}\r\nContent-Type: application/json\r\n{headers}\r\n\r\n0\r\n\r\n{inner}"
        );
        let mut line = TcpStream::connect(addr).await?;
        line.write_all(request.as_bytes()).await?;
        let answer = raw::answer(&mut line).await?.context("no answer")?;
        assert_eq!(answer.status, 400, "{headers}: {answer:?}");
        assert!(
            raw::answer(&mut line).await?.is_none(),
            "what follows was read as a request"
        );
        fixture
            .client()
            .get(&format!("/v1/files/{}", fixture.train))
            .await?;
    }
    Ok(())
}

/// B66: three megabytes, a byte at a time.
#[tokio::test]
async fn a_body_in_tiny_chunks() -> Result<()> {
    let fixture = Fixture::start().await?;
    let addr = &fixture.client().addr;
    let head = |path: &str, kind: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: {addr}\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes()
    };
    let chunks = |text: &[u8]| {
        text.iter()
            .flat_map(|byte| [b'1', b'\r', b'\n', *byte, b'\r', b'\n'])
            .collect::<Vec<u8>>()
    };
    let end = b"0\r\n\r\n";
    let large = chunks(&vec![b' '; 3 << 20]);
    let request = [&head(JOBS, "application/json")[..], &large, end].concat();
    let answer = raw::exchange(addr, &request).await?.context("no answer")?;
    assert_eq!(answer.status, 413);
    let form = format!(
        "--x\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nfine-tune\r\n--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\n{}\r\n--x--\r\n",
        "y".repeat(3 << 20)
    );
    let kind = "multipart/form-data; boundary=x";
    let request = [&head("/v1/files", kind)[..], &chunks(form.as_bytes()), end].concat();
    let answer = raw::exchange(addr, &request).await?.context("no answer")?;
    let file: serde_json::Value = serde_json::from_slice(&answer.body)?;
    assert_eq!((answer.status, &file["bytes"]), (200, &json!(3 << 20)));
    Ok(())
}

/// B67, B77.
#[tokio::test]
async fn heads_that_are_too_large() -> Result<()> {
    let fixture = Fixture::start().await?;
    let addr = &fixture.client().addr;
    let many: String = (0..1000).map(|i| format!("X-{i}: x\r\n")).collect();
    let long = |bytes: usize| "x".repeat(bytes);
    for (number, path, headers, status) in [
        ("B67", "/v1/files".to_owned(), many, 431),
        (
            "B67",
            "/v1/files".to_owned(),
            format!("X: {}\r\n", long(64 << 10)),
            431,
        ),
        (
            "B77",
            format!("/v1/files?after={}", long(64 << 10)),
            String::new(),
            431,
        ),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n{headers}\r\n");
        let answer = raw::exchange(addr, request.as_bytes()).await?;
        assert_eq!(answer.context(number)?.status, status, "{number}");
    }
    fixture.client().get("/v1/files").await?;
    Ok(())
}

/// B76.
#[tokio::test]
async fn a_thousand_requests_before_the_first_answer() -> Result<()> {
    let fixture = Fixture::start().await?;
    let addr = &fixture.client().addr;
    let mut line = TcpStream::connect(addr).await?;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {addr}\r\n\r\n").repeat(1000);
    line.write_all(request.as_bytes()).await?;
    for number in 0..1000 {
        let answer = raw::answer(&mut line).await?.context("no answer")?;
        ensure!(answer.status == 200, "{number}: {answer:?}");
    }
    Ok(())
}

/// B78, and a head that never ends: who sends nothing more is not waited for without end.
#[tokio::test]
async fn requests_that_never_end() -> Result<()> {
    let fixture = Fixture::start().await?;
    let addr = &fixture.client().addr;
    let begin = async |text: String| -> Result<(u16, Duration)> {
        let began = Instant::now();
        let mut line = TcpStream::connect(addr).await?;
        line.write_all(text.as_bytes()).await?;
        let mut answer = raw::answer(&mut line).await?;
        if answer.as_ref().is_some_and(|answer| answer.status == 100) {
            answer = raw::answer(&mut line).await?;
        }
        Ok((answer.map_or(0, |answer| answer.status), began.elapsed()))
    };
    let head = |path: &str, more: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 100\r\n{more}")
    };
    let json = "Content-Type: application/json\r\n";
    let form = "Content-Type: multipart/form-data; boundary=x\r\n";
    let part = "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\ny";
    let (nothing, half, json_waits, json_half, form_half) = tokio::join!(
        begin(String::new()),
        begin(head(JOBS, "X: ")),
        begin(head(JOBS, &format!("{json}Expect: 100-continue\r\n\r\n"))),
        begin(head(JOBS, &format!("{json}\r\n{{"))),
        begin(head("/v1/files", &format!("{form}\r\n{part}"))),
    );
    for (ended, status, seconds) in [
        (nothing?, 0, 10..12),
        (half?, 0, 10..12),
        (json_waits?, 408, 30..33),
        (json_half?, 408, 30..33),
        (form_half?, 408, 30..33),
    ] {
        assert_eq!(ended.0, status);
        assert!(
            seconds.contains(&ended.1.as_secs()),
            "{status} after {:?}",
            ended.1
        );
    }
    assert_eq!(
        fixture.folders.contents()?.len(),
        1,
        "an upload was left behind"
    );
    Ok(())
}
