//! What a user, or somebody who is none, can get wrong: the status, the field and the sentence, one row each, through a real socket.
//! After each row the server must be alive and hold what it held before.
//!
//! The numbers are those of the list of bad inputs that the tables were made from (B1 to B94). Without a row, since there is nothing
//! here that it could be about: B25 (no route takes a date), B33 (no batches), B59 (no GGUF), B63 (an adapter is only ever offered
//! with its own base), B83 and B84 (no sorting, no search), B89 (no `since`). B93 is a check of `tests/chaos`. Things of other
//! tenants (in B26 to B28) stand with the tests of keys.

mod body;
mod chat;
mod data;
mod forms;
mod http;
mod keys;
mod models;
mod raw;
mod spec;
mod states;
mod weights;

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::{Context, Result};
use reqwest::{Method, RequestBuilder, header::CONTENT_TYPE};
use serde_json::{Value, json};

use crate::{
    client::{Client, answer},
    model::jsonl,
    server::{Folders, MODEL, Server},
};

const JOBS: &str = "/v1/fine_tuning/jobs";

/// What the answer must be: status, `param`, a part of the message.
type Wanted<'a> = (u16, Option<&'a str>, &'a str);

/// The rows of a table, whose columns have ` | ` between them.
fn rows<const N: usize>(table: &str) -> impl Iterator<Item = [&str; N]> {
    table.lines().filter(|line| !line.is_empty()).map(|line| {
        let columns: Vec<_> = line.split(" | ").map(str::trim).collect();
        <[&str; N]>::try_from(columns).unwrap_or_else(|_| panic!("not a row: {line}"))
    })
}

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

    /// A good body with one field, by its path, set to a text that may be no JSON.
    fn with(&self, field: &str, json: &str) -> String {
        let mut parts = field.rsplit('.');
        let own = parts.next().unwrap_or_default();
        let inner = parts.fold(format!("\"{own}\": {json}"), |inner, part| {
            let kind = match part {
                "tuning" => "\"type\": \"lora\", ",
                "method" if own != "type" => "\"type\": \"supervised\", ",
                _ => "",
            };
            format!("\"{part}\": {{{kind}{inner}}}")
        });
        let head = [("model", MODEL), ("training_file", &self.train)];
        let head = head.into_iter().filter(|(name, _)| *name != field);
        let head: String = head
            .map(|(name, value)| format!("\"{name}\": \"{value}\", "))
            .collect();
        format!("{{{head}{inner}}}")
    }

    fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        let request = self.client().request(Method::POST, path);
        request.header(CONTENT_TYPE, "application/json").body(body)
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
        let text = body.to_string();
        let request = self.post(JOBS, text.clone());
        self.refuse(request, wanted).await.context(text)
    }

    /// Asks for the plan of a job, for which more is looked at than for the job's acceptance.
    async fn refuse_plan(&self, body: Value, wanted: Wanted<'_>) -> Result<()> {
        let path = format!("{JOBS}?dry_run=true");
        self.refuse(self.post(&path, body.to_string()), wanted)
            .await
    }

    /// Files, jobs and what lies on the disk.
    async fn state(&self) -> Result<(Value, Value, BTreeSet<PathBuf>)> {
        let files = self.client().get("/v1/files").await?;
        let jobs = self.client().get(JOBS).await?;
        Ok((files, jobs, self.folders.contents()?))
    }
}
