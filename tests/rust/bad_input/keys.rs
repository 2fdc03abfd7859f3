//! B71, B72, B74: who may call.

use std::time::Duration;

use anyhow::Result;
use reqwest::{Method, StatusCode};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{Fixture, JOBS, rows};
use crate::{
    client::answer,
    server::{Folders, Server},
};

#[tokio::test]
async fn foreign_pages_are_kept_out() -> Result<()> {
    let fixture = Fixture::start().await?;
    let client = fixture.client();
    for (method, path) in [
        (Method::GET, "/v1/files"),
        (Method::GET, "/v1/events/stream"),
        (Method::POST, JOBS),
        (Method::DELETE, "/v1/files/file-none"),
        (Method::GET, "/healthz"),
        (Method::GET, "/"),
    ] {
        for host in ["evil.com", "127.0.0.1.evil.com", "localhost:80:80", ""] {
            let request = client.request(method.clone(), path).header("host", host);
            fixture.refuse(request, (421, None, "--allow-host")).await?;
        }
        for origin in ["http://evil", "null", "http://localhost:1", "file://"] {
            let request = client
                .request(method.clone(), path)
                .header("origin", origin);
            fixture.refuse(request, (403, None, "Origin")).await?;
        }
    }
    let own = format!("http://{}", client.addr);
    let request = client
        .request(Method::GET, "/v1/files")
        .header("origin", own);
    let (status, _) = answer(request).await?;
    assert_eq!(status, StatusCode::OK);
    Ok(())
}

/// Query, the headers Authorization (;; between two of them, - for none), status, param, a part of the message.
const TOKENS: &str = "
- | - | 401 | - | Authorization: Bearer KEY
- | secret | 401 | - | Authorization: Bearer KEY
- | Bearer | 401 | - | Authorization: Bearer KEY
- | Basic secret | 401 | - | Authorization: Bearer KEY
- | Bearer wrong | 401 | - | not valid here
- | Bearer secret x | 401 | - | not valid here
- | Bearer secret;;Bearer secret | 401 | - | one header
?api_key=secret | - | 401 | - | Authorization: Bearer KEY
?token=secret | Bearer secret | 400 | token | refused, for addresses are logged
?limit=1&API_KEY=secret | Bearer secret | 400 | API_KEY | refused, for addresses are logged
";

#[tokio::test]
async fn keys_that_are_none() -> Result<()> {
    let folders = Folders::new()?;
    let mut command = folders.command()?;
    command.env("TAPER_API_KEY", "secret");
    let server = Server::start(command).await?;
    let long = format!("Bearer {}", "x".repeat(30_000));
    for path in ["/v1/files", JOBS, "/v1/events/stream", "/v1/nothing"] {
        for [query, authorization, status, param, message] in rows(TOKENS) {
            let query = query.trim_start_matches('-');
            let mut request = server
                .client
                .request(Method::GET, &format!("{path}{query}"));
            for value in authorization.split(";;").filter(|value| *value != "-") {
                request = request.header("authorization", value);
            }
            let (got, body) = answer(request).await?;
            let shown = format!("{path}{query} {authorization}: {body}");
            assert_eq!(got.as_u16(), status.parse::<u16>()?, "{shown}");
            assert_eq!(
                body["error"]["param"].as_str().unwrap_or("-"),
                param,
                "{shown}"
            );
            assert!(
                body["error"]["message"]
                    .as_str()
                    .is_some_and(|text| text.contains(message)),
                "{shown}"
            );
        }
        let request = server
            .client
            .request(Method::GET, path)
            .header("authorization", &long);
        let (status, _) = answer(request).await?;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
    }
    Ok(())
}

/// So many requests a second and no more; on this machine that has to be asked for.
#[tokio::test]
async fn more_requests_than_allowed() -> Result<()> {
    let folders = Folders::new()?;
    let mut command = folders.command()?;
    command.args(["--limit-loopback", "--requests-per-second", "5"]);
    let server = Server::start(command).await?;
    let mut refused = 0;
    for _ in 0..20 {
        let request = server.client.request(Method::GET, "/v1/files");
        let answer = request.send().await?;
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            assert_eq!(answer.headers()["retry-after"], "1");
            let body: serde_json::Value = answer.json().await?;
            assert_eq!(body["error"]["code"], "rate_limit_exceeded");
            refused += 1;
        }
    }
    assert!((5..=15).contains(&refused), "{refused} of 20");
    sleep(Duration::from_secs(1)).await;
    server.client.get("/v1/files").await?;
    Ok(())
}

/// So many connections of one address and no more.
#[tokio::test]
async fn more_connections_than_allowed() -> Result<()> {
    let folders = Folders::new()?;
    let mut command = folders.command()?;
    command.args(["--limit-loopback", "--connections-per-address", "3"]);
    let server = Server::start(command).await?;
    let mut lines = Vec::new();
    for _ in 0..5 {
        lines.push(TcpStream::connect(&server.client.addr).await?);
    }
    let mut closed = 0;
    for line in &mut lines {
        let read = timeout(Duration::from_millis(500), line.read_u8()).await;
        closed += usize::from(read.is_ok());
    }
    assert_eq!(closed, 2);
    drop(lines);
    sleep(Duration::from_millis(200)).await;
    server.client.get("/v1/files").await?;
    Ok(())
}
