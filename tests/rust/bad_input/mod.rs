//! What a user can get wrong: the status, the field and the sentence, one row each; nothing may be left behind.

mod body;
mod data;
mod http;
mod job;
mod model;
mod raw;

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::{Context, Result};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::{
    client::{Client, answer},
    model::jsonl,
    server::{Folders, MODEL, Server},
};

/// What the answer must be: status, `param`, a part of the message.
type Wanted<'a> = (u16, Option<&'a str>, &'a str);

struct Fixture {
    folders: Folders,
    server: Server,
    train: String,
}

impl Fixture {
    async fn start() -> Result<Self> {
        let folders = Folders::new()?;
        let server = folders.serve().await?;
        let train = server.client.upload("train.jsonl", jsonl(20)).await?;
        Ok(Self {
            folders,
            server,
            train,
        })
    }

    fn client(&self) -> &Client {
        &self.server.client
    }

    /// A good body with some fields set otherwise.
    fn body(&self, change: Value) -> Value {
        let mut body =
            json!({"model": MODEL, "training_file": self.train, "training": {"max_steps": 1}});
        for (name, value) in change.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        body
    }

    /// Sends what is wrong and compares; afterwards the server must be alive and hold what it held before.
    async fn refuse(&self, request: RequestBuilder, wanted: Wanted<'_>) -> Result<()> {
        let before = self.state().await?;
        let (status, body) = answer(request).await?;
        let error = &body["error"];
        let message = error["message"].as_str().context("no message")?;
        let keys: Vec<_> = error.as_object().context("no error")?.keys().collect();
        assert_eq!(keys, ["message", "type", "param", "code"], "{body}");
        assert_eq!(
            (status.as_u16(), error["param"].as_str()),
            (wanted.0, wanted.1),
            "{message}"
        );
        assert!(
            message.contains(wanted.2),
            "{message:?} lacks {:?}",
            wanted.2
        );
        assert_eq!(
            self.state().await?,
            before,
            "something was left behind by: {message}"
        );
        Ok(())
    }

    async fn refuse_job(&self, body: Value, wanted: Wanted<'_>) -> Result<()> {
        let request = self
            .client()
            .request(Method::POST, "/v1/fine_tuning/jobs")
            .json(&body);
        self.refuse(request, wanted)
            .await
            .with_context(|| body.to_string())
    }

    /// Files, jobs and what lies on the disk.
    async fn state(&self) -> Result<(Value, Value, BTreeSet<PathBuf>)> {
        let files = self.client().get("/v1/files").await?;
        let jobs = self.client().get("/v1/fine_tuning/jobs").await?;
        Ok((files, jobs, self.folders.contents()?))
    }
}
