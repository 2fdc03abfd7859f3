//! Bytes on a socket, for what no HTTP client would send.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// An answer as it came.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The value of a header, empty when it is not there.
    pub(super) fn header(&self, name: &str) -> &str {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(':'));
        let found = headers.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value.trim())
    }

    /// `param` and message of an error in OpenAI's shape.
    pub(super) fn error(&self) -> Result<(Option<String>, String)> {
        let text = String::from_utf8_lossy(&self.body);
        let body: Value = serde_json::from_str(&text).with_context(|| format!("{self:?}"))?;
        let param = body["error"]["param"].as_str().map(str::to_owned);
        let message = body["error"]["message"].as_str().context("no message")?;
        Ok((param, message.to_owned()))
    }
}

/// Sends bytes, all of them before it looks for an answer. `None`: the server has closed the line without one.
pub(super) async fn exchange(addr: &str, bytes: &[u8]) -> Result<Option<Answer>> {
    let mut line = TcpStream::connect(addr).await?;
    line.write_all(bytes).await.context("while sending")?;
    answer(&mut line).await
}

/// Reads the next answer on a line.
pub(super) async fn answer(line: &mut TcpStream) -> Result<Option<Answer>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match timeout(PATIENCE, line.read_u8())
            .await
            .context("no answer")?
        {
            Ok(byte) => head.push(byte),
            Err(_) => {
                ensure!(head.is_empty(), "an answer broke off in its head");
                return Ok(None);
            }
        }
    }
    let head = String::from_utf8(head)?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    let mut answer = Answer {
        status,
        head,
        body: Vec::new(),
    };
    let length = answer.header("content-length").parse().unwrap_or_default();
    answer.body.resize(length, 0);
    line.read_exact(&mut answer.body).await?;
    Ok(Some(answer))
}
