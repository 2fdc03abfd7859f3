//! `taper keys` beside a running server, and before one.

use std::{process::Output, time::Duration};

use anyhow::Result;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{process::Command, time::timeout};

use crate::{
    client::answer,
    model::jsonl,
    server::{Folders, Server, binary},
};

const MODELS: &str = "/v1/models";

/// `taper`, on the data directory of some folders.
async fn taper(folders: &Folders, words: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary()?);
    command.args(words).arg("--data-dir").arg(folders.data());
    command.env_remove("TAPER_API_KEY");
    Ok(command.current_dir(folders.root()).output().await?)
}

async fn said(folders: &Folders, words: &[&str]) -> Result<String> {
    let output = taper(folders, words).await?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {errors}");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

async fn get(server: &Server, path: &str, key: &str) -> Result<(StatusCode, Value)> {
    answer(server.client.request(Method::GET, path).bearer_auth(key)).await
}

#[tokio::test]
async fn a_running_server_takes_keys_at_once_and_drops_them_at_once() -> Result<()> {
    let folders = Folders::new()?;
    let server = folders.serve().await?;
    let file = server.client.upload("open.jsonl", jsonl(40)).await?;
    server.client.get(MODELS).await?;
    let create = ["keys", "create", "--role", "submit", "--project", "films"];
    let films = said(&folders, &create).await?;
    let admin = said(
        &folders,
        &["keys", "create", "--role", "admin", "--name", "ops"],
    )
    .await?;
    let (status, _) = answer(server.client.request(Method::GET, MODELS)).await?;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    for (key, found) in [(&films, StatusCode::NOT_FOUND), (&admin, StatusCode::OK)] {
        let path = format!("/v1/files/{file}");
        assert_eq!(get(&server, &path, key).await?.0, found);
    }

    let list = said(&folders, &["keys", "list"]).await?;
    let line = |name: &str| {
        list.lines()
            .find(|line| line.contains(name))
            .unwrap_or_default()
    };
    assert!(line("films").contains("submit"), "{list}");
    assert!(line("ops").contains("(all)"), "{list}");
    let id = films.split('-').nth(1).unwrap_or_default();
    said(&folders, &["keys", "revoke", id]).await?;
    assert_eq!(
        get(&server, MODELS, &films).await?.0,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(get(&server, MODELS, &admin).await?.0, StatusCode::OK);
    let again = taper(&folders, &["keys", "revoke", id]).await?;
    assert_eq!(again.status.code(), Some(1));
    assert!(said(&folders, &["keys", "list"]).await?.contains("revoked"));

    // They outlive the server.
    assert!(server.terminate().await?.success());
    let server = folders.serve().await?;
    assert_eq!(
        get(&server, MODELS, &films).await?.0,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(get(&server, MODELS, &admin).await?.0, StatusCode::OK);
    let report = taper(&folders, &["doctor"]).await?;
    let report = String::from_utf8(report.stdout)?;
    assert!(
        report.contains("ok    keys           1 admin\n"),
        "{report}"
    );
    Ok(())
}

#[tokio::test]
async fn a_silent_stream_ends_as_soon_as_its_key_is_revoked() -> Result<()> {
    let folders = Folders::new()?;
    let server = folders.serve().await?;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let key = said(&folders, &["keys", "create", "--role", "read"]).await?;
        let stream = server.client.request(Method::GET, "/v1/events/stream");
        let mut answer = stream.bearer_auth(&key).send().await?;
        let opening = answer.chunk().await?.unwrap_or_default();
        assert!(opening.starts_with(b"retry:"), "{opening:?}");
        streams.push((key, answer));
    }
    // Past the look for news that the making of the keys is.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (gone, stays) = streams.split_at_mut(1);
    let id = gone[0].0.split('-').nth(1).unwrap_or_default();
    said(&folders, &["keys", "revoke", id]).await?;
    // A stream shows that it lives every 15 seconds, so nothing else ends this one.
    let soon = Duration::from_secs(3);
    assert_eq!(timeout(soon, gone[0].1.chunk()).await??, None);
    let goes_on = timeout(soon, stays[0].1.chunk()).await;
    assert!(goes_on.is_err(), "the other key's stream should go on");
    Ok(())
}

#[tokio::test]
async fn an_address_for_others_needs_a_key_first() -> Result<()> {
    let mut folders = Folders::new()?;
    folders.listen = "0.0.0.0:0".to_owned();
    let report = taper(&folders, &["doctor", "--listen", "0.0.0.0:0"]).await?;
    let report = String::from_utf8(report.stdout)?;
    assert!(report.contains("FAIL  keys"), "{report}");
    let refused = folders.command()?.output().await?;
    assert_eq!(refused.status.code(), Some(1));
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(why.contains("taper keys create"), "{why}");
    assert!(!folders.data().exists(), "nothing was made");

    // The first key makes the data directory.
    let key = said(&folders, &["keys", "create", "--role", "read"]).await?;
    let mut server = folders.serve().await?;
    let port = server.client.addr.rsplit(':').next().unwrap_or_default();
    server.client = crate::client::Client::new(&format!("127.0.0.1:{port}"))?;
    assert_eq!(get(&server, MODELS, &key).await?.0, StatusCode::OK);
    let body = json!({"model": "x"});
    let create = server.client.request(Method::POST, "/v1/fine_tuning/jobs");
    let (status, refused) = answer(create.bearer_auth(&key).json(&body)).await?;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(refused["error"]["code"], "insufficient_permissions");

    // Without any that is in force it does not start there again, and serves nobody where only this machine comes.
    said(
        &folders,
        &["keys", "revoke", key.split('-').nth(1).unwrap_or_default()],
    )
    .await?;
    assert!(server.terminate().await?.success());
    let refused = folders.command()?.output().await?;
    assert_eq!(refused.status.code(), Some(1));
    folders.listen = "127.0.0.1:0".to_owned();
    let server = folders.serve().await?;
    let (status, _) = answer(server.client.request(Method::GET, MODELS)).await?;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    Ok(())
}
