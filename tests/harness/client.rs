use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use reqwest::{
    Method, RequestBuilder, StatusCode,
    multipart::{Form, Part},
};
use serde_json::Value;

use crate::server::MODEL;

/// Talks to a server under test.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    pub addr: String,
}

/// An event of a stream with its number; `None` is the end, `[DONE]`.
pub type Message = Option<(u64, Value)>;

impl Client {
    pub fn new(addr: &str) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self {
            http,
            addr: addr.to_owned(),
        })
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("http://{}{path}", self.addr))
    }

    /// The body of a successful GET.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.json(self.request(Method::GET, path)).await
    }

    /// The bytes of a successful GET.
    pub async fn bytes(&self, path: &str) -> Result<Vec<u8>> {
        let answer = self.request(Method::GET, path).send().await?;
        Ok(answer.error_for_status()?.bytes().await?.into())
    }

    pub async fn json(&self, request: RequestBuilder) -> Result<Value> {
        let (status, body) = answer(request).await?;
        ensure!(status.is_success(), "{status}: {body}");
        Ok(body)
    }

    /// Uploads a file for fine-tuning and returns its id.
    pub async fn upload(&self, name: &str, content: impl Into<Vec<u8>>) -> Result<String> {
        let part = Part::bytes(content.into()).file_name(name.to_owned());
        let form = Form::new().text("purpose", "fine-tune").part("file", part);
        let file = self
            .json(self.request(Method::POST, "/v1/files").multipart(form))
            .await?;
        Ok(file["id"].as_str().context("no id")?.to_owned())
    }

    /// Asks for a job; the answer may be an error.
    pub async fn create(&self, body: &Value) -> Result<(StatusCode, Value)> {
        answer(
            self.request(Method::POST, "/v1/fine_tuning/jobs")
                .json(body),
        )
        .await
    }

    /// Creates a job of the tiny model and returns its id.
    pub async fn submit(&self, training_file: &str, mut rest: Value) -> Result<String> {
        rest["model"] = MODEL.into();
        rest["training_file"] = training_file.into();
        let (status, job) = self.create(&rest).await?;
        ensure!(status == StatusCode::OK, "{status}: {job}");
        Ok(job["id"].as_str().context("no id")?.to_owned())
    }

    pub async fn job(&self, id: &str) -> Result<Value> {
        self.get(&format!("/v1/fine_tuning/jobs/{id}")).await
    }

    /// Waits for a job to be in a state; another end is an error.
    pub async fn wait(&self, id: &str, state: &str) -> Result<Value> {
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
    pub async fn wait_for_step(&self, id: &str, steps: u64) -> Result<()> {
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
    pub async fn events(&self, id: &str) -> Result<Vec<(u64, Value)>> {
        let path = format!("/v1/fine_tuning/jobs/{id}/events/stream");
        let mut stream = self
            .stream(&path, None)
            .await?
            .context("the stream has no content")?;
        let mut events = Vec::new();
        while let Some(event) = stream.next().await? {
            events.push(event);
        }
        Ok(events)
    }

    /// Opens a stream of events after the number `last`; `None` when there is nothing more to come.
    pub async fn stream(&self, path: &str, last: Option<u64>) -> Result<Option<EventStream>> {
        let mut request = self.request(Method::GET, path);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let answer = request.send().await?.error_for_status()?;
        if answer.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        Ok(Some(EventStream {
            chunks: answer.bytes_stream().boxed(),
            text: Vec::new(),
        }))
    }
}

/// An open stream of events.
pub struct EventStream {
    chunks: BoxStream<'static, reqwest::Result<Bytes>>,
    text: Vec<u8>,
}

impl EventStream {
    /// The next event; `None` is the end, `[DONE]`.
    ///
    /// # Errors
    /// A stream that breaks off.
    pub async fn next(&mut self) -> Result<Message> {
        loop {
            while let Some(end) = self.text.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.text.drain(..end + 2).collect();
                let block = String::from_utf8(block)?;
                // Else it is a comment, or how long to wait before connecting again.
                if block.contains("data:") {
                    return message(&block);
                }
            }
            let chunk = self.chunks.next().await;
            self.text
                .extend_from_slice(&chunk.context("the stream ended without [DONE]")??);
        }
    }
}

/// Sends a request and reads the answer's status and JSON body.
pub async fn answer(request: RequestBuilder) -> Result<(StatusCode, Value)> {
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
