use std::io::{Cursor, Read};

use axum::{body::Body, http::Request};
use serde_json::json;
use zip::ZipArchive;

use crate::{
    app::{JOBS, TestApp, text},
    trainer::weights,
};

#[tokio::test]
async fn artifacts_are_listed_and_downloaded() {
    let app = TestApp::start().await;
    let id = app.submit(json!({})).await;
    app.wait(&id).await;
    let path = format!("{JOBS}/{id}/artifacts");
    let list = app.get(&path).await.json().await;
    let paths: Vec<_> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| text(&a["path"]))
        .collect();
    assert_eq!(
        paths,
        [
            "adapter/adapter_config.json",
            "adapter/adapter_model.safetensors",
            "metrics.csv"
        ]
    );
    assert_eq!(list["has_more"], false);
    let model = &list["data"][1];
    let answer = app.get(&format!("{path}/{}", paths[1])).await;
    assert_eq!(answer.header("content-type"), "application/octet-stream");
    assert_eq!(
        answer.header("etag"),
        format!("\"{}\"", text(&model["sha256"]))
    );
    assert_eq!(
        answer.header("content-disposition"),
        "attachment; filename=\"adapter_model.safetensors\""
    );
    assert_eq!(answer.header("content-length"), model["bytes"].to_string());
    assert_eq!(answer.bytes().await, weights());
    let head = Request::head(format!("{path}/metrics.csv"));
    let head = app.send(head.body(Body::empty()).unwrap()).await;
    assert_eq!(
        (head.status.as_u16(), head.header("content-length")),
        (200, "22")
    );
}

#[tokio::test]
async fn a_path_is_looked_up_and_never_followed() {
    let app = TestApp::start().await;
    let id = app.submit(json!({})).await;
    app.wait(&id).await;
    let path = format!("{JOBS}/{id}/artifacts");
    for outside in [
        "adapter",
        "adapter/",
        "nothing",
        "../checkpoints/step-00000005/state.json",
        "..%2fcheckpoints%2fstep-00000005%2fstate.json",
        "%2e%2e%2f%2e%2e%2ftaper.db",
        "%252e%252e%252ftaper.db",
        "..%5c..%5ctaper.db",
        "%2fetc%2fpasswd",
        "/etc/passwd",
        "adapter/%00.safetensors",
        "adapter/adapter_config.json%00",
        "adapter/adapter_config.json.",
        "ADAPTER/adapter_config.json",
    ] {
        let answer = app.get(&format!("{path}/{outside}")).await;
        assert_eq!(answer.error().await.0, 404, "{outside}");
    }
    assert_eq!(
        app.get(&format!("{path}/%c0%ae")).await.error().await.0,
        400
    );
}

#[tokio::test]
async fn the_zip_holds_the_adapter_alone() {
    let app = TestApp::start().await;
    let id = app.submit(json!({})).await;
    app.wait(&id).await;
    let answer = app.get(&format!("{JOBS}/{id}/adapter.zip")).await;
    assert_eq!(answer.header("content-type"), "application/zip");
    assert_eq!(
        answer.header("content-disposition"),
        format!("attachment; filename=\"{id}.zip\"")
    );
    let mut archive = ZipArchive::new(Cursor::new(answer.bytes().await)).unwrap();
    let mut names: Vec<_> = archive
        .file_names()
        .map(|name| name.unwrap().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["adapter_config.json", "adapter_model.safetensors"]);
    for (name, expected) in [
        ("adapter_config.json", b"{\"r\": 8}".to_vec()),
        ("adapter_model.safetensors", weights()),
    ] {
        let mut content = Vec::new();
        archive
            .by_name(name)
            .unwrap()
            .read_to_end(&mut content)
            .unwrap();
        assert_eq!(content, expected);
    }
}

#[tokio::test]
async fn there_is_nothing_to_download_before_the_end() {
    let app = TestApp::start().await;
    let id = app.submit(json!({"metadata": {"script": "wait"}})).await;
    app.reach(&id, "running").await;
    let list = app
        .get(&format!("{JOBS}/{id}/artifacts"))
        .await
        .json()
        .await;
    assert_eq!(list["data"], json!([]));
    let (status, _, message) = app
        .get(&format!("{JOBS}/{id}/adapter.zip"))
        .await
        .error()
        .await;
    assert_eq!(status, 400);
    assert!(message.contains("is running"), "{message}");
    app.post(&format!("{JOBS}/{id}/cancel")).await.json().await;
}
