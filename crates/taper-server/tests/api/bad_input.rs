//! The tables of bad input: each row has its exact status, its param and a part of its message.

use axum::{
    body::Body,
    http::{Request, header},
};
use serde_json::json;

use crate::app::{JOBS, PURPOSE, ROWS, TestApp};

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn bodies_of_jobs() {
    let app = TestApp::start().await;
    let file = app.upload(ROWS).await;
    let broken = app.upload("not json\n").await;
    let other = [
        ("name=\"purpose\"", "batch"),
        ("name=\"file\"; filename=\"x\"", "x"),
    ];
    let batch = app.post_form(&other).await.json().await["id"].clone();
    let with = |more: &str| format!(r#"{{"model": "tiny", "training_file": "{file}"{more}}}"#);
    let deep = "[".repeat(129) + &"]".repeat(129);
    let named =
        |model: &str, file: &str| json!({"model": model, "training_file": file}).to_string();
    for (body, param, message) in [
        (String::new(), "-", "the body is empty"),
        ("  ".to_owned(), "-", "the body is empty"),
        ("null".to_owned(), "-", "must be a JSON object, not null"),
        ("[]".to_owned(), "-", "must be a JSON object, not []"),
        ("\"x\"".to_owned(), "-", "must be a JSON object, not \"x\""),
        ("1".to_owned(), "-", "must be a JSON object, not 1"),
        (
            "{}".to_owned(),
            "model",
            "missing required parameter: 'model'; missing required parameter: 'training_file'",
        ),
        (r#"{"model": "tiny""#.to_owned(), "-", "not valid JSON: EOF"),
        ("{} {}".to_owned(), "-", "trailing characters"),
        (
            with(r#", "model": "tiny""#),
            "-",
            "the key \"model\" stands twice in one object",
        ),
        (
            with(r#", "hyperparameters": {"n_epochs": 1, "n_epochs": 9}"#),
            "-",
            "\"n_epochs\" stands twice",
        ),
        (with(&format!(r#", "x": {deep}"#)), "-", "recursion limit"),
        (with(","), "-", "not valid JSON"),
        (
            with(r#", "training": {"learning_rate": NaN}"#),
            "-",
            "not valid JSON",
        ),
        (
            with(r#", "training": {"learning_rate": 1e400}"#),
            "-",
            "number out of range",
        ),
        (
            with(r#", "suffix": "\ud800""#),
            "-",
            "not valid JSON: unexpected end of hex escape",
        ),
        (format!("\u{feff}{}", with("")), "-", "not valid JSON"),
        (
            with(r#", "learnig_rate": 1"#),
            "learnig_rate",
            "unknown parameter",
        ),
        (
            with(r#", "trainning": {}"#),
            "trainning",
            "did you mean 'training'?",
        ),
        (
            with(r#", "tuning": {"type": "lora", "r": 0}"#),
            "tuning.r",
            "from 1 to 4096, not 0",
        ),
        (
            with(r#", "tuning": {"type": "lora", "lora_apha": 1}"#),
            "tuning.lora_apha",
            "did you mean 'tuning.lora_alpha'?",
        ),
        (
            with(r#", "training": {"learning_rate": -1e-4}"#),
            "training.learning_rate",
            "greater than 0",
        ),
        (
            with(r#", "training": {"max_length": 999}"#),
            "training.max_length",
            "at most 256 tokens",
        ),
        (
            with(r#", "method": {"type": "dpo"}"#),
            "method.type",
            "not \"dpo\"",
        ),
        (
            with(r#", "suffix": "a/b", "training": {"seed": -1}"#),
            "suffix",
            "'training.seed' must be",
        ),
        (
            named("none", &file),
            "model",
            "the model \"none\" does not exist; GET /v1/models",
        ),
        (named("../tiny", &file), "model", "does not exist"),
        (
            named("tiny", "file-none"),
            "training_file",
            "the file 'file-none' does not exist",
        ),
        (
            named("tiny", batch.as_str().unwrap()),
            "training_file",
            "purpose",
        ),
        (
            named("tiny", &broken),
            "training_file",
            "rows.jsonl, line 1: not a JSON object",
        ),
        (
            with(r#", "validation_file": "file-none""#),
            "validation_file",
            "does not exist",
        ),
    ] {
        let (status, got, text) = app.post_json(JOBS, body.clone()).await.error().await;
        assert_eq!((status, got.as_str()), (400, param), "{body}: {text}");
        assert!(text.contains(message), "{body}: {text}");
    }
    let answer = app.post_json(JOBS, vec![b'{', 0xff, b'}']).await;
    assert_eq!(answer.error().await.0, 400);
    assert_eq!(app.get(JOBS).await.json().await["data"], json!([]));
}

#[tokio::test]
async fn sizes_and_types_of_bodies() {
    let app = TestApp::start().await;
    let body = |bytes: usize| format!("{{\"model\": \"{}\"}}", "x".repeat(bytes - 13));
    let (status, param, _) = app.post_json(JOBS, body(1 << 20)).await.error().await;
    assert_eq!((status, param.as_str()), (400, "training_file"));
    let (status, _, message) = app.post_json(JOBS, body((1 << 20) + 1)).await.error().await;
    assert_eq!(status, 413);
    assert!(message.contains("1048576"), "{message}");
    // What the body of an experiment says may stand in many jobs.
    for (bytes, wanted) in [(64 << 10, 400), ((64 << 10) + 1, 413)] {
        let (status, _, message) = app
            .post_json("/v1/experiments", body(bytes))
            .await
            .error()
            .await;
        assert_eq!(status, wanted, "{message}");
    }
    let pieces = [0; 2].map(|_| Ok::<_, std::io::Error>(vec![b' '; 600_000]));
    let streamed = Body::from_stream(futures_util::stream::iter(pieces));
    assert_eq!(app.post_json(JOBS, streamed).await.error().await.0, 413);

    for (content_type, status) in [
        (None, 415),
        (Some("text/plain"), 415),
        (Some("application/x-www-form-urlencoded"), 415),
        (Some("application/jsonx"), 415),
        (Some("application/json; charset=utf-8"), 400),
        (Some("Application/JSON"), 400),
    ] {
        let mut request = Request::post(JOBS);
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let answer = app.send(request.body(Body::from("{}")).unwrap()).await;
        assert_eq!(answer.error().await.0, status, "{content_type:?}");
    }
    let request = Request::post(JOBS)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONTENT_ENCODING, "gzip")
        .body(Body::from("{}"));
    assert_eq!(app.send(request.unwrap()).await.error().await.0, 415);
    let id = app.submit(json!({"metadata": {"script": "wait"}})).await;
    let cancel =
        Request::post(format!("{JOBS}/{id}/cancel")).header(header::CONTENT_TYPE, "text/plain");
    app.send(cancel.body(Body::empty()).unwrap())
        .await
        .json()
        .await;
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn queries() {
    let app = TestApp::start().await;
    let id = app.submit(json!({})).await;
    app.wait(&id).await;
    let job = format!("{JOBS}/{id}");
    let many = vec!["x"; 101].join(",");
    for (path, param, message) in [
        (
            "/v1/files?limit=0".to_owned(),
            "limit",
            "from 1 to 10000, not 0",
        ),
        (format!("{JOBS}?limit=-1"), "limit", "not -1"),
        (format!("{JOBS}?limit=%2B1"), "limit", "not +1"),
        (
            format!("{JOBS}?limit=1000000000"),
            "limit",
            "from 1 to 10000",
        ),
        (format!("{JOBS}?limit=abc"), "limit", "not abc"),
        (format!("{JOBS}?limit="), "limit", "not "),
        (format!("{JOBS}?limit=1&limit=2"), "limit", "only once"),
        (format!("{JOBS}?limt=1"), "limt", "did you mean 'limit'?"),
        (
            format!("{JOBS}?status=foo"),
            "status",
            "known here: metadata, after, limit",
        ),
        (
            format!("{JOBS}?metadata=none"),
            "metadata",
            "or null by itself",
        ),
        (
            format!("{JOBS}?after=ftjob-none"),
            "after",
            "names nothing in this list",
        ),
        (
            format!("{JOBS}?after="),
            "after",
            "names nothing in this list",
        ),
        (
            "/v1/files?after=file-none".to_owned(),
            "after",
            "names nothing in this list",
        ),
        (
            "/v1/files?order=up".to_owned(),
            "order",
            "must be asc or desc, not up",
        ),
        (
            format!("{job}/events?after=ftevent-x"),
            "after",
            "names nothing in this list: ftevent-x",
        ),
        (
            format!("{job}/events?after=12"),
            "after",
            "names nothing in this list",
        ),
        (
            format!("{job}/events?limit=10001"),
            "limit",
            "from 1 to 10000",
        ),
        (
            format!("{job}/checkpoints?after=ftckpt-none"),
            "after",
            "names nothing in this list",
        ),
        (
            format!("{job}/metrics?points=0"),
            "points",
            "from 1 to 10000",
        ),
        (
            format!("{job}/metrics?points=1000000000"),
            "points",
            "from 1 to 10000",
        ),
        (
            format!("{job}/metrics?from=5&to=4"),
            "from",
            "which is after 'to' (4)",
        ),
        (
            format!("{job}/metrics?from=99999999999999999999"),
            "from",
            "whole number",
        ),
        (
            format!("{job}/metrics?names=a,,b"),
            "names",
            "1 to 100 elements",
        ),
        (
            format!("{job}/metrics?names={many}"),
            "names",
            "1 to 100 elements",
        ),
        (
            format!("/v1/events/stream?jobs={many}"),
            "jobs",
            "1 to 100 elements",
        ),
    ] {
        let (status, got, text) = app.get(&path).await.error().await;
        assert_eq!((status, got.as_str()), (400, param), "{path}: {text}");
        assert!(text.contains(message), "{path}: {text}");
    }
    let unknown = app
        .get(&format!("{job}/metrics?names=__proto__"))
        .await
        .json()
        .await;
    assert_eq!(unknown["data"], json!({}));
}

/// A client learns that the server failed; the log keeps the cause.
#[tokio::test]
async fn a_failure_inside_the_server_keeps_its_cause() {
    let app = TestApp::start().await;
    let file = app.upload(ROWS).await;
    let metadata = json!({"script": "break down"});
    let body = json!({"model": "tiny", "training_file": file, "metadata": metadata}).to_string();
    let answer = app.post_json(JOBS, body).await;
    let text = answer.text().await;
    assert!(
        text.contains("\"type\":\"server_error\",\"param\":null,\"code\":null"),
        "{text}"
    );
    assert!(!text.contains("scripted"), "{text}");
    assert_eq!(app.get("/healthz").await.status.as_u16(), 200);
}

#[tokio::test]
async fn nothing_is_left_of_a_refused_job() {
    let app = TestApp::start().await;
    let file = ("name=\"file\"; filename=\"x.jsonl\"", "[1]\n");
    let id = app.post_form(&[PURPOSE, file]).await.json().await["id"].clone();
    let body = json!({"model": "tiny", "training_file": id}).to_string();
    assert_eq!(app.post_json(JOBS, body).await.error().await.0, 400);
    assert_eq!(app.get(JOBS).await.json().await["data"], json!([]));
    assert_eq!(app.uploads().len(), 1);
}
