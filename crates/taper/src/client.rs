use std::{net::SocketAddr, path::Path};

use anyhow::{Context, Result, bail};
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
        id_of(&self.post("/fine_tuning/jobs", body).await?)
    }

    /// The job as it is now.
    pub(crate) async fn job(&self, id: &str) -> Result<Value> {
        self.get(&format!("/fine_tuning/jobs/{id}")).await
    }

    /// Every event of a job, from the first one to the last.
    pub(crate) async fn events(&self, id: &str) -> Result<Events> {
        let path = format!("/fine_tuning/jobs/{id}/events/stream");
        self.stream(&path).await
    }

    /// Creates an experiment and returns its id.
    pub(crate) async fn create_experiment(&self, body: &Value) -> Result<String> {
        id_of(&self.post("/experiments", body).await?)
    }

    /// The experiment as it is now.
    pub(crate) async fn experiment(&self, id: &str) -> Result<Value> {
        self.get(&format!("/experiments/{id}")).await
    }

    /// What an experiment has found, as a text in this format.
    pub(crate) async fn table(&self, id: &str, format: &str) -> Result<String> {
        let url = self.url(&format!("/experiments/{id}/table?format={format}"));
        Ok(self.ask(self.http.get(url)).await?.text().await?)
    }

    /// Every event of an experiment's jobs, from the first one on; they have no end.
    pub(crate) async fn events_of_experiment(&self, id: &str) -> Result<Events> {
        let path = format!("/experiments/{id}/events/stream");
        self.stream(&path).await
    }

    /// Puts what a stopped experiment has left undone back into the queue.
    pub(crate) async fn resume_experiment(&self, id: &str) -> Result<Value> {
        self.post(&format!("/experiments/{id}/resume"), &Value::Null)
            .await
    }

    /// Cancels jobs that an earlier demo has left behind, since they would run first; returns how many there were.
    pub(crate) async fn cancel_unfinished(&self) -> Result<usize> {
        let jobs = "/fine_tuning/jobs";
        let list = self.get(&format!("{jobs}?limit=100")).await?;
        let mut cancelled = 0;
        for job in list["data"].as_array().into_iter().flatten() {
            let state = job["status"].as_str().unwrap_or_default();
            if !matches!(state, "succeeded" | "failed" | "cancelled") {
                let path = format!("{jobs}/{}/cancel", id_of(job)?);
                self.post(&path, &Value::Null).await?;
                cancelled += 1;
            }
        }
        Ok(cancelled)
    }

    async fn get(&self, path: &str) -> Result<Value> {
        json(self.ask(self.http.get(self.url(path))).await?).await
    }

    /// Sends a body, or none where it is null.
    async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let request = self.http.post(self.url(path));
        let request = match body {
            Value::Null => request,
            body => request.json(body),
        };
        json(self.ask(request).await?).await
    }

    async fn stream(&self, path: &str) -> Result<Events> {
        // Without a place to go on from, some streams tell only what is to come.
        let request = self.http.get(self.url(path)).header("Last-Event-ID", "0");
        Ok(Events {
            answer: self.ask(request).await?,
            lines: Lines::default(),
        })
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

/// An event stream.
pub(crate) struct Events {
    answer: Response,
    lines: Lines,
}

impl Events {
    /// The next event; `None` after the last one. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The stream was cut before its end.
    pub(crate) async fn next(&mut self) -> Result<Option<Value>> {
        loop {
            while let Some(line) = self.lines.next() {
                match line.strip_prefix("data:").map(str::trim) {
                    Some("[DONE]") => return Ok(None),
                    Some(event) => return Ok(Some(serde_json::from_str(event)?)),
                    None => {}
                }
            }
            let chunk = self.answer.chunk().await;
            match chunk.context("the event stream was cut")? {
                Some(chunk) => self.lines.push(&chunk),
                None => bail!("the event stream ended before the job did"),
            }
        }
    }
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
