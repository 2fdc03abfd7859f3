//! A data directory of an older build: today's opens it, shows what it holds, and finishes its runs to the same bytes.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::server::{Folders, Server};

fn fixture() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/golden/upgrade"))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

async fn assert_same_bytes(server: &Server, job: &Value) -> Result<()> {
    let id = job["id"].as_str().context("no id")?;
    let sums = job["sha256"].as_object().context("no sums")?;
    assert!(!sums.is_empty());
    for (path, expected) in sums {
        let path = format!("/v1/fine_tuning/jobs/{id}/artifacts/{path}");
        let sum = format!("{:x}", Sha256::digest(server.client.bytes(&path).await?));
        assert_eq!(&sum, expected, "{path} of the {} run", job["method"]);
    }
    Ok(())
}

#[tokio::test]
async fn the_runs_of_an_older_build_end_with_its_bytes() -> Result<()> {
    let root = tempfile::tempdir()?;
    copy(fixture(), root.path())?;
    let folders = Folders::at(root.path())?;
    let server = folders.serve().await?;
    let jobs = server.client.get("/v1/fine_tuning/jobs?limit=100").await?;
    assert_eq!(jobs["data"].as_array().map(Vec::len), Some(6));

    let expected: Value = serde_json::from_slice(&fs::read(fixture().join("expected.json"))?)?;
    for job in expected["jobs"].as_array().context("no jobs")? {
        let id = job["id"].as_str().context("no id")?;
        if job["status"] == "paused" {
            assert_eq!(server.client.job(id).await?["status"], "paused");
            let path = format!("/v1/fine_tuning/jobs/{id}/resume");
            let resume = server.client.request(reqwest::Method::POST, &path);
            server.client.json(resume).await?;
        }
        server.client.wait(id, "succeeded").await?;
        assert_same_bytes(&server, job).await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_an_older_build_has_finished_is_still_there() -> Result<()> {
    let root = tempfile::tempdir()?;
    copy(fixture(), root.path())?;
    let server = Folders::at(root.path())?.serve().await?;
    let experiments = server.client.get("/v1/experiments").await?;
    let experiment = &experiments["data"][0];
    assert_eq!(experiment["status"], "succeeded");
    let path = format!(
        "/v1/experiments/{}",
        experiment["id"].as_str().context("no id")?
    );
    let table = server.client.get(&path).await?["table"].clone();
    assert_eq!(
        table["rows"].as_array().or(table.as_array()).map(Vec::len),
        Some(2),
        "{table}"
    );

    let jobs = server.client.get("/v1/fine_tuning/jobs?limit=100").await?;
    let jobs = jobs["data"].as_array().context("no jobs")?;
    let ended = jobs.iter().filter(|job| job["status"] == "succeeded");
    for job in ended {
        let id = job["id"].as_str().context("no id")?;
        let path = format!("/v1/fine_tuning/jobs/{id}/artifacts");
        for artifact in server.client.get(&path).await?["data"]
            .as_array()
            .context("no list")?
        {
            let name = artifact["name"]
                .as_str()
                .or(artifact["path"].as_str())
                .context("no name")?;
            let bytes = server.client.bytes(&format!("{path}/{name}")).await?;
            let sum = format!("{:x}", Sha256::digest(bytes));
            assert_eq!(artifact["sha256"], sum, "{name}");
        }
    }
    Ok(())
}
