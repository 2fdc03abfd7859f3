//! Paths that lead nowhere, and methods that are not possible.

use axum::{
    body::Body,
    http::{Method, Request},
};

use crate::app::{JOBS, TestApp};

#[tokio::test]
async fn paths_and_ids() {
    let app = TestApp::start().await;
    let long = "x".repeat(8000);
    for (path, status) in [
        (format!("{JOBS}/ftjob-none"), 404),
        (format!("{JOBS}/../../etc/passwd"), 404),
        (format!("{JOBS}/%2e%2e%2f"), 404),
        (format!("{JOBS}/%252e%252e%252f"), 404),
        (format!("{JOBS}/..%5c..%5c"), 404),
        ("/v1/files//etc/passwd".to_owned(), 404),
        ("/v1/files/%2fetc%2fpasswd/content".to_owned(), 404),
        ("/v1/files/x%00.safetensors".to_owned(), 404),
        ("/v1/files/%c0%ae".to_owned(), 400),
        (format!("/v1/files/{long}"), 404),
        ("/v1/files/-1".to_owned(), 404),
        ("/v1/files/0x10".to_owned(), 404),
        ("/v1/files/CON".to_owned(), 404),
        ("/v1/files/.".to_owned(), 404),
        ("/v1/models/none".to_owned(), 404),
        ("/v1/models/..%2f..%2fetc".to_owned(), 404),
        ("/v1/models/%2fetc".to_owned(), 404),
        ("/v1/models/a/b/c".to_owned(), 404),
        ("/v1".to_owned(), 404),
        ("/v1/none".to_owned(), 404),
        ("/v1/chat/completions".to_owned(), 404),
    ] {
        let (got, _, message) = app.get(&path).await.error().await;
        assert_eq!(got, status, "{path}: {message}");
        assert!(message.len() < 250, "{message}");
    }
    let (_, param, message) = app.get("/v1/models/none").await.error().await;
    assert_eq!(param, "model");
    assert!(message.starts_with("no such model: 'none'; GET /v1/models"));
    let (_, _, message) = app.get("/v1/files/a%1b%5b31m").await.error().await;
    assert_eq!(
        message,
        "no such file: 'a\\u{1b}[31m'; GET /v1/files lists what there is"
    );
    for missing in [
        "cancel",
        "events",
        "checkpoints",
        "metrics",
        "artifacts",
        "artifacts/x",
        "adapter.zip",
        "model.zip",
    ] {
        let path = format!("{JOBS}/ftjob-none/{missing}");
        let answer = if missing == "cancel" {
            app.post(&path).await
        } else {
            app.get(&path).await
        };
        let (status, param, message) = answer.error().await;
        assert_eq!((status, param.as_str()), (404, "id"), "{missing}");
        assert!(message.contains("'ftjob-none'"), "{message}");
    }
}

#[tokio::test]
async fn methods() {
    let app = TestApp::start().await;
    for (path, allowed) in [
        ("/v1/files", "GET,HEAD,POST"),
        ("/v1/files/x", "GET,HEAD,DELETE"),
        ("/v1/files/x/content", "GET,HEAD"),
        (JOBS, "GET,HEAD,POST"),
        ("/v1/fine_tuning/jobs/x", "GET,HEAD,PATCH,DELETE"),
        ("/v1/fine_tuning/jobs/x/pause", "POST"),
        ("/v1/fine_tuning/jobs/x/resume", "POST"),
        ("/v1/fine_tuning/jobs/x/retry", "POST"),
        ("/v1/fine_tuning/jobs/x/cancel", "POST"),
        ("/v1/fine_tuning/jobs/x/events", "GET,HEAD"),
        ("/v1/fine_tuning/jobs/x/events/stream", "GET,HEAD"),
        ("/v1/fine_tuning/jobs/x/checkpoints", "GET,HEAD"),
        ("/v1/fine_tuning/jobs/x/metrics", "GET,HEAD"),
        ("/v1/fine_tuning/jobs/x/artifacts", "GET,HEAD"),
        ("/v1/fine_tuning/jobs/x/artifacts/y/z", "GET,HEAD"),
        ("/v1/fine_tuning/jobs/x/adapter.zip", "GET,HEAD"),
        ("/v1/fine_tuning/jobs/x/model.zip", "GET,HEAD"),
        ("/v1/events/stream", "GET,HEAD"),
        ("/v1/models", "GET,HEAD"),
        ("/v1/models/x/y", "GET,HEAD,DELETE"),
        ("/v1/uploads", "POST"),
        ("/v1/uploads/x/parts", "POST"),
        ("/v1/uploads/x/complete", "POST"),
        ("/v1/uploads/x/cancel", "POST"),
        ("/healthz", "GET,HEAD"),
        ("/readyz", "GET,HEAD"),
        ("/openapi.json", "GET,HEAD"),
        ("/jobs/x", "GET,HEAD"),
    ] {
        let methods = [Method::PUT, Method::PATCH, Method::OPTIONS, Method::TRACE];
        let refused = |method: &Method| !allowed.contains(method.as_str());
        for method in methods.into_iter().filter(refused) {
            let request = Request::builder().method(&method).uri(path);
            let answer = app.send(request.body(Body::empty()).unwrap()).await;
            let mut allow: Vec<_> = answer.header("allow").split(',').collect();
            allow.sort_unstable();
            let mut expected: Vec<_> = allowed.split(',').collect();
            expected.sort_unstable();
            assert_eq!(allow, expected, "{method} {path}");
            assert_eq!(answer.error().await.0, 405, "{method} {path}");
        }
    }
}
