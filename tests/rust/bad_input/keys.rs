//! B74: how much callers may ask.

use std::time::Duration;

use anyhow::Result;
use reqwest::{Method, StatusCode};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::server::{Folders, Server};

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
