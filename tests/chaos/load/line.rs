//! A client that costs as little as possible, so that the server is what is measured: one connection, HTTP/1.1 by hand.

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpSocket, TcpStream},
};

pub(crate) struct Line {
    stream: BufReader<TcpStream>,
    addr: String,
}

impl Line {
    pub(crate) async fn connect(addr: &str) -> Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
            addr: addr.to_owned(),
        })
    }

    /// The same with room for no more than this many bytes that nobody has read.
    pub(crate) async fn connect_narrow(addr: &str, bytes: u32) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(bytes)?;
        Ok(Self {
            stream: BufReader::with_capacity(1, socket.connect(addr.parse()?).await?),
            addr: addr.to_owned(),
        })
    }

    /// Sends a request and reads the answer: status and body.
    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        body: &str,
    ) -> Result<(u16, Vec<u8>)> {
        self.write(method, path, "", body).await?;
        let (status, length) = self.head().await?;
        let mut body = vec![0; length.context("an answer without a length")?];
        self.stream.read_exact(&mut body).await?;
        Ok((status, body))
    }

    /// Asks for a stream of events; [`Line::next_id`] reads it.
    pub(crate) async fn follow(&mut self, path: &str) -> Result<()> {
        match self.follow_from(path, "").await? {
            true => Ok(()),
            false => bail!("there is nothing to follow"),
        }
    }

    /// The same, after an event that has been seen; 0 = none. False: that was the last one.
    pub(crate) async fn follow_after(&mut self, path: &str, seen: u64) -> Result<bool> {
        self.follow_from(path, &format!("Last-Event-ID: {seen}\r\n"))
            .await
    }

    async fn follow_from(&mut self, path: &str, header: &str) -> Result<bool> {
        self.write("GET", path, header, "").await?;
        match self.head().await? {
            (200, _) => Ok(true),
            (204, _) => Ok(false),
            (status, _) => bail!("a stream was answered with {status}"),
        }
    }

    /// The number of the next event; `None` at the end.
    pub(crate) async fn next_id(&mut self) -> Result<Option<u64>> {
        let mut line = Vec::new();
        loop {
            line.clear();
            if self.stream.read_until(b'\n', &mut line).await? == 0 {
                bail!("a stream has broken off");
            }
            if line.starts_with(b"data: [DONE]") {
                return Ok(None);
            }
            if let Some(number) = line.strip_prefix(b"id: ") {
                return Ok(Some(std::str::from_utf8(number)?.trim().parse()?));
            }
        }
    }

    /// The content of the next event, without looking at its number.
    pub(crate) async fn next_data(&mut self) -> Result<serde_json::Value> {
        let mut line = Vec::new();
        loop {
            line.clear();
            if self.stream.read_until(b'\n', &mut line).await? == 0 {
                bail!("a stream has broken off");
            }
            if let Some(data) = line.strip_prefix(b"data: ") {
                return Ok(serde_json::from_slice(data)?);
            }
        }
    }

    pub(crate) fn into_socket(self) -> TcpStream {
        self.stream.into_inner()
    }

    async fn write(&mut self, method: &str, path: &str, header: &str, body: &str) -> Result<()> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{header}Content-Length: {}\r\n\r\n{body}",
            self.addr,
            body.len()
        );
        Ok(self.stream.get_mut().write_all(head.as_bytes()).await?)
    }

    async fn head(&mut self) -> Result<(u16, Option<usize>)> {
        let mut line = String::new();
        self.stream.read_line(&mut line).await?;
        let status = line
            .split(' ')
            .nth(1)
            .with_context(|| format!("no status in {line:?}"))?
            .parse()?;
        let mut length = None;
        loop {
            line.clear();
            if self.stream.read_line(&mut line).await? == 0 {
                bail!("an answer has broken off");
            }
            if line == "\r\n" {
                return Ok((status, length));
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = Some(value.trim().parse()?);
            }
        }
    }
}
