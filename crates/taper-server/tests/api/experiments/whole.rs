use std::time::Duration;

use axum::{body::Body, http::Request};
use futures_util::StreamExt;
use serde_json::json;

use super::{EXPERIMENTS, column, create, has_ended, reach};
use crate::app::{JOBS, TestApp, text};

#[tokio::test]
async fn the_whole_is_paused_resumed_cancelled_and_deleted() {
    let app = TestApp::start().await;
    let more = json!({"methods": "all", "metadata": {"script": "wait"}});
    let id = text(&create(&app, more).await["id"]);
    let path = format!("{EXPERIMENTS}/{id}");
    let act = async |verb: &str| app.post(&format!("{path}/{verb}")).await;
    reach(&app, &id, |it| {
        it["table"][0]["status"] == "running" && it["table"][3]["status"] == "queued"
    })
    .await;
    assert_eq!(act("resume").await.error().await.0, 400);

    let paused = act("pause").await.json().await;
    assert_eq!(paused["status"], "paused");
    assert_eq!(
        json!(column(&paused, "status")),
        json!(["paused", "paused", "paused", "paused"])
    );
    assert_eq!(act("pause").await.json().await["status"], "paused");

    let resumed = act("resume").await.json().await;
    assert!(
        ["running", "queued"].contains(&resumed["status"].as_str().unwrap()),
        "{resumed}"
    );
    reach(&app, &id, |it| it["table"][0]["status"] == "running").await;
    let (status, _, message) = app.delete(&path).await.error().await;
    assert_eq!(status, 400);
    assert!(
        message.contains("an experiment can be deleted while it is succeeded, failed or cancelled"),
        "{message}"
    );

    let cancelled = act("cancel").await.json().await;
    assert_eq!(
        json!(column(&cancelled, "status")),
        json!(["cancelled", "cancelled", "cancelled", "cancelled"])
    );
    assert_eq!(act("cancel").await.json().await["status"], "cancelled");
    assert_eq!(act("pause").await.error().await.0, 400);

    let deleted = app.delete(&path).await.json().await;
    assert_eq!(
        deleted,
        json!({"id": id, "object": "experiment", "deleted": true})
    );
    assert_eq!(app.get(&path).await.error().await.0, 404);
    assert_eq!(app.get(JOBS).await.json().await["data"], json!([]));
}

#[tokio::test]
async fn events_of_all_runs_are_one_log_and_one_stream() {
    let app = TestApp::start().await;
    let more = json!({"methods": "all", "training": {"max_steps": 1}});
    let other = app.submit(json!({})).await;
    let id = text(&create(&app, more).await["id"]);
    let stream =
        Request::get(format!("{EXPERIMENTS}/{id}/events/stream")).header("last-event-id", "0");
    let stream = app.send(stream.body(Body::empty()).unwrap()).await;
    let ended = reach(&app, &id, has_ended).await;
    let log = app
        .get(&format!("{EXPERIMENTS}/{id}/events?limit=1000"))
        .await
        .json()
        .await;
    let events = log["data"].as_array().unwrap();
    assert!(events.len() >= 4 * 6 && events.iter().all(|event| event["job"] != other.as_str()));
    assert_eq!(events[0]["data"]["status"], "succeeded");
    let page = format!(
        "{EXPERIMENTS}/{id}/events?limit=2&after={}",
        text(&events[1]["id"])
    );
    let page = app.get(&page).await.json().await;
    assert_eq!(page["data"], json!([events[2], events[3]]));
    let after = app
        .get(&format!("{EXPERIMENTS}/{id}/events?after=ftevent-1"))
        .await
        .error()
        .await;
    assert_eq!((after.0, after.1.as_str()), (400, "after"));

    app.post(&format!("{EXPERIMENTS}/{id}/cancel")).await;
    let newest = format!("\"id\":\"{}\"", text(&events[0]["id"]));
    let streamed = read_until(stream.body, &newest).await;
    for job in ended["jobs"].as_array().unwrap() {
        assert!(streamed.contains(&format!("\"job\":{job}")), "{job}");
    }
    assert!(!streamed.contains(&other));
}

/// Reads a stream until it holds a text.
async fn read_until(body: Body, wanted: &str) -> String {
    let mut chunks = body.into_data_stream();
    let mut read = String::new();
    while !read.contains(wanted) {
        let chunk = tokio::time::timeout(Duration::from_secs(10), chunks.next()).await;
        read += std::str::from_utf8(&chunk.unwrap().unwrap().unwrap()).unwrap();
    }
    read
}
