use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures_util::StreamExt;
use reqwest::{
    Method, RequestBuilder, StatusCode,
    multipart::{Form, Part},
};
use serde_json::Value;

use crate::server::MODEL;

/// Talks to a server under test.
pub(crate) struct Client {
    http: reqwest::Client,
    pub(crate) addr: String,
}

/// An event of a stream with its number; `None` is the end, `[DONE]`.
pub(crate) type Message = Option<(u64, Value)>;

impl Client {
    pub(crate) fn new(addr: &str) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self {
            http,
            addr: addr.to_owned(),
        })
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("http://{}{path}", self.addr))
    }

    /// The body of a successful GET.
    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        self.json(self.request(Method::GET, path)).await
    }

    /// The bytes of a successful GET.
    pub(crate) async fn bytes(&self, path: &str) -> Result<Vec<u8>> {
        let answer = self.request(Method::GET, path).send().await?;
        Ok(answer.error_for_status()?.bytes().await?.into())
    }

    pub(crate) async fn json(&self, request: RequestBuilder) -> Result<Value> {
        let (status, body) = answer(request).await?;
        ensure!(status.is_success(), "{status}: {body}");
        Ok(body)
    }

    /// Uploads a file for fine-tuning and returns its id.
    pub(crate) async fn upload(&self, name: &str, content: impl Into<Vec<u8>>) -> Result<String> {
        let part = Part::bytes(content.into()).file_name(name.to_owned());
        let form = Form::new().text("purpose", "fine-tune").part("file", part);
        let file = self
            .json(self.request(Method::POST, "/v1/files").multipart(form))
            .await?;
        Ok(file["id"].as_str().context("no id")?.to_owned())
    }

    /// Asks for a job; the answer may be an error.
    pub(crate) async fn create(&self, body: &Value) -> Result<(StatusCode, Value)> {
        answer(
            self.request(Method::POST, "/v1/fine_tuning/jobs")
                .json(body),
        )
        .await
    }

    /// Creates a job of the tiny model and returns its id.
    pub(crate) async fn submit(&self, training_file: &str, mut rest: Value) -> Result<String> {
        rest["model"] = MODEL.into();
        rest["training_file"] = training_file.into();
        let (status, job) = self.create(&rest).await?;
        ensure!(status == StatusCode::OK, "{status}: {job}");
        Ok(job["id"].as_str().context("no id")?.to_owned())
    }

    pub(crate) async fn job(&self, id: &str) -> Result<Value> {
        self.get(&format!("/v1/fine_tuning/jobs/{id}")).await
    }

    /// Waits for a job to be in a state; another end is an error.
    pub(crate) async fn wait(&self, id: &str, state: &str) -> Result<Value> {
        let began = Instant::now();
        loop {
            let job = self.job(id).await?;
            if job["status"] == state {
                return Ok(job);
            }
            let ended = ["succeeded", "failed", "cancelled"]
                .iter()
                .any(|end| job["status"] == *end);
            if ended || began.elapsed() > Duration::from_secs(120) {
                bail!("waited for {state}, got {job}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a job has trained `steps` steps.
    pub(crate) async fn wait_for_step(&self, id: &str, steps: u64) -> Result<()> {
        loop {
            let job = self.wait(id, "running").await?;
            if job["metrics"]["step"]
                .as_u64()
                .is_some_and(|step| step >= steps)
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Every event of a job's stream from the first one to the end.
    pub(crate) async fn events(&self, id: &str) -> Result<Vec<(u64, Value)>> {
        let path = format!("/v1/fine_tuning/jobs/{id}/events/stream");
        let mut chunks = self
            .request(Method::GET, &path)
            .send()
            .await?
            .error_for_status()?
            .bytes_stream();
        let mut text = Vec::new();
        let mut events = Vec::new();
        while let Some(chunk) = chunks.next().await {
            text.extend_from_slice(&chunk?);
            while let Some(end) = text.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = text.drain(..end + 2).collect();
                let block = String::from_utf8(block)?;
                if !block.contains("data:") {
                    continue; // a comment, or how long to wait before connecting again
                }
                match message(&block)? {
                    Some(event) => events.push(event),
                    None => return Ok(events),
                }
            }
        }
        bail!(
            "the stream ended without [DONE] after {} events",
            events.len()
        )
    }
}

/// Sends a request and reads the answer's status and JSON body.
pub(crate) async fn answer(request: RequestBuilder) -> Result<(StatusCode, Value)> {
    let answer = request.send().await?;
    let status = answer.status();
    let text = answer.text().await?;
    let body =
        serde_json::from_str(&text).with_context(|| format!("{status} with the body {text:?}"))?;
    Ok((status, body))
}

fn message(block: &str) -> Result<Message> {
    let field = |name: &str| {
        block
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    match field("data:") {
        Some("[DONE]") => Ok(None),
        Some(data) => {
            let id = field("id:").with_context(|| format!("an event without an id: {block}"))?;
            Ok(Some((id.parse()?, serde_json::from_str(data)?)))
        }
        None => bail!("an event without data: {block}"),
    }
}
