//! P9: a server calls nobody and starts nothing, from the first upload to the last download.

use anyhow::{Result, ensure};
use reqwest::Method;
use serde_json::json;
use taper_tests::{
    model::jsonl,
    server::{Folders, Server},
};

use crate::{
    check::{Passed, Size},
    inject,
};

pub(crate) async fn calls_nobody(_: Size) -> Result<Passed> {
    if let Some(reason) = inject::missing().await {
        return Ok(Passed::Skipped(reason));
    }
    let folders = Folders::new()?;
    let log = folders.root().join("calls").display().to_string();
    let trace = ["-e", "trace=connect,execve,execveat", "-o", &log];
    let strace = ["strace", "-f", "-D", "-qq", "--seccomp-bpf"];
    let wrapper = [&strace[..], &trace].concat();
    let server = Server::start(folders.command_under(&wrapper)?).await?;
    let client = &server.client;
    let rows = client.upload("rows.jsonl", jsonl(40)).await?;
    let body = json!({"training": {"max_steps": 5, "save_steps": 2}});
    let job = client.submit(&rows, body).await?;
    client.wait(&job, "succeeded").await?;
    client.events(&job).await?;
    let path = format!("/v1/fine_tuning/jobs/{job}/adapter.zip");
    ensure!(!client.bytes(&path).await?.is_empty(), "no adapter");
    let page = client
        .request(Method::GET, "/")
        .header("accept", "text/html");
    page.send().await?.error_for_status()?;
    for path in ["/docs/", "/openapi.json", "/metrics"] {
        client.bytes(path).await?;
    }
    let ended = server.terminate().await?;
    ensure!(ended.success(), "the server did not end well: {ended}");
    let calls = std::fs::read_to_string(&log)?;
    // The first is the server itself.
    let programs = calls.matches("execve").count();
    ensure!(programs == 1, "a program was started: {calls}");
    let lines: Vec<_> = calls
        .lines()
        .filter(|line| line.contains("connect("))
        .collect();
    ensure!(lines.is_empty(), "somebody was called: {lines:?}");
    Ok(Passed::new(
        "upload, job, streams, downloads and page: no program started, no connection made",
    ))
}
