use std::{net::SocketAddr, path::Path};

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use reqwest::{
    RequestBuilder, Response,
    multipart::{Form, Part},
};
use serde_json::Value;

/// Talks to the server as any other client would.
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    key: Option<String>,
}

impl Client {
    pub(crate) fn new(addr: SocketAddr, key: Option<String>) -> Result<Self> {
        Ok(Self {
            http: reqwest::Client::builder().no_proxy().build()?,
            base: format!("http://{addr}/v1"),
            key,
        })
    }

    /// Uploads a file for fine-tuning and returns its id.
    pub(crate) async fn upload(&self, path: &Path) -> Result<String> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let bytes = tokio::fs::read(path)
            .await
            .with_context(|| format!("cannot read {}", path.display()))?;
        let form = Form::new()
            .text("purpose", "fine-tune")
            .part("file", Part::bytes(bytes).file_name(name.into_owned()));
        let file = self.ask(self.http.post(self.url("/files")).multipart(form));
        id_of(&json(file.await?).await?)
    }

    /// Creates a fine-tuning job and returns its id.
    pub(crate) async fn create_job(&self, body: &Value) -> Result<String> {
        let job = self.ask(self.http.post(self.url("/fine_tuning/jobs")).json(body));
        id_of(&json(job.await?).await?)
    }

    /// The job as it is now.
    pub(crate) async fn job(&self, id: &str) -> Result<Value> {
        let url = self.url(&format!("/fine_tuning/jobs/{id}"));
        json(self.ask(self.http.get(url)).await?).await
    }

    /// Cancels jobs that an earlier demo has left behind, since they would run first; returns how many there were.
    pub(crate) async fn cancel_unfinished(&self) -> Result<usize> {
        let jobs = self.url("/fine_tuning/jobs");
        let list = json(self.ask(self.http.get(&jobs)).await?).await?;
        let mut cancelled = 0;
        for job in list["data"].as_array().into_iter().flatten() {
            let state = job["status"].as_str().unwrap_or_default();
            if !matches!(state, "succeeded" | "failed" | "cancelled") {
                let id = id_of(job)?;
                self.ask(self.http.post(format!("{jobs}/{id}/cancel")))
                    .await?;
                cancelled += 1;
            }
        }
        Ok(cancelled)
    }

    /// Hands every event of a job to `each`, from the first one to the last.
    ///
    /// # Errors
    /// The stream was cut before the job's end.
    pub(crate) async fn follow(&self, id: &str, mut each: impl FnMut(&Value)) -> Result<()> {
        let url = self.url(&format!("/fine_tuning/jobs/{id}/events/stream"));
        let mut chunks = self.ask(self.http.get(url)).await?.bytes_stream();
        let mut lines = Lines::default();
        while let Some(chunk) = chunks.next().await {
            lines.push(&chunk.context("the event stream was cut")?);
            while let Some(line) = lines.next() {
                match line.strip_prefix("data:").map(str::trim) {
                    Some("[DONE]") => return Ok(()),
                    Some(event) => each(&serde_json::from_str(event)?),
                    None => {}
                }
            }
        }
        bail!("the event stream ended before the job did")
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Sends a request; an answer that tells of an error becomes one, in the server's own words.
    async fn ask(&self, request: RequestBuilder) -> Result<Response> {
        let request = match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        };
        let answer = request.send().await?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = json(answer).await.unwrap_or_default();
        let message = body["error"]["message"]
            .as_str()
            .unwrap_or("no reason given");
        bail!("the server answered {status}: {message}")
    }
}

async fn json(answer: Response) -> Result<Value> {
    Ok(answer.json().await?)
}

fn id_of(object: &Value) -> Result<String> {
    let id = object["id"].as_str().context("an answer without an id")?;
    Ok(id.to_owned())
}

/// Cuts a stream of bytes into whole lines.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn next(&mut self) -> Option<String> {
        let end = self.0.iter().position(|&byte| byte == b'\n')?;
        let line: Vec<u8> = self.0.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line).trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_may_come_in_pieces() {
        let mut lines = Lines::default();
        lines.push("data: f\u{fc}".as_bytes().split_at(7).0);
        assert_eq!(lines.next(), None);
        lines.push("data: f\u{fc}".as_bytes().split_at(7).1);
        lines.push(b"r\r\n\ndata");
        assert_eq!(lines.next().unwrap(), "data: f\u{fc}r");
        assert_eq!(lines.next().unwrap(), "");
        assert_eq!(lines.next(), None);
    }
}
