//! A request that is sent twice makes one thing.

use axum::{
    body::Body,
    http::{Request, header},
};
use serde_json::{Value, json};

use crate::app::{Answer, JOBS, ROWS, TestApp, text};

const KEY: &str = "idempotency-key";
const RETRIES: &str = "x-stainless-retry-count";

async fn submit(app: &TestApp, body: &Value, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::post(JOBS).header(header::CONTENT_TYPE, "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    app.send(request.body(Body::from(body.to_string())).unwrap())
        .await
}

async fn job(app: &TestApp, body: &Value, headers: &[(&str, &str)]) -> String {
    text(&submit(app, body, headers).await.json().await["id"])
}

async fn count(app: &TestApp) -> usize {
    app.get(JOBS).await.json().await["data"]
        .as_array()
        .unwrap()
        .len()
}

#[tokio::test]
async fn a_key_stands_for_one_job() {
    let app = TestApp::start().await;
    let body = json!({"model": "tiny", "training_file": app.upload(ROWS).await});
    let first = job(&app, &body, &[(KEY, "a")]).await;
    assert_eq!(job(&app, &body, &[(KEY, "a")]).await, first);
    // The job is found even when its file has gone, which a new job could not name.
    app.wait(&first).await;
    app.delete(&format!("/v1/files/{}", text(&body["training_file"])))
        .await
        .json()
        .await;
    assert_eq!(job(&app, &body, &[(KEY, "a")]).await, first);
    assert_eq!(count(&app).await, 1);

    let other = json!({"model": "tiny", "training_file": app.upload(ROWS).await});
    let refused = submit(&app, &other, &[(KEY, "a")]).await.text().await;
    assert!(
        refused.contains("\"code\":\"idempotency_key_reused\""),
        "{refused}"
    );
    assert_ne!(job(&app, &other, &[(KEY, "b")]).await, first);
    // Keys of two callers have nothing to do with each other.
    assert_ne!(
        job(&app, &other, &[(KEY, "a"), ("authorization", "Bearer x")]).await,
        first
    );
    assert_eq!(count(&app).await, 3);
}

#[tokio::test]
async fn many_at_once_with_one_key_make_one_job() {
    let app = TestApp::start().await;
    let body = json!({"model": "tiny", "training_file": app.upload(ROWS).await});
    let key = [(KEY, "k")];
    let all = (0..20).map(|_| job(&app, &body, &key));
    let mut ids = futures_util::future::join_all(all).await;
    ids.dedup();
    assert_eq!((ids.len(), count(&app).await), (1, 1));
}

#[tokio::test]
async fn a_client_that_says_it_repeats_itself_gets_the_same_job() {
    let app = TestApp::start().await;
    let body = json!({"model": "tiny", "training_file": app.upload(ROWS).await});
    let first = job(&app, &body, &[(RETRIES, "0")]).await;
    assert_eq!(job(&app, &body, &[(RETRIES, "1")]).await, first);
    assert_eq!(job(&app, &body, &[(RETRIES, "2")]).await, first);
    // Without that word the same body is another job.
    let second = job(&app, &body, &[(RETRIES, "0")]).await;
    assert_ne!(second, first);
    assert_eq!(job(&app, &body, &[(RETRIES, "1")]).await, second);
    let mut other = body.clone();
    other["suffix"] = json!("x");
    assert!(![first, second].contains(&job(&app, &other, &[(RETRIES, "1")]).await));
    assert_eq!(count(&app).await, 3);
    // What was made under a key is found by that key alone.
    other["suffix"] = json!("y");
    let keyed = job(&app, &other, &[(KEY, "a")]).await;
    assert_ne!(job(&app, &other, &[(RETRIES, "1")]).await, keyed);
}

#[tokio::test]
async fn keys_that_are_none_are_refused() {
    let app = TestApp::start().await;
    let body = json!({"model": "tiny", "training_file": app.upload(ROWS).await});
    let long = "k".repeat(300);
    for key in ["", &long, "two words", "é"] {
        let (status, param, message) = submit(&app, &body, &[(KEY, key)]).await.error().await;
        assert_eq!(
            (status, param.as_str()),
            (400, "Idempotency-Key"),
            "{message}"
        );
        assert!(message.contains("1 to 255 printable ASCII"), "{message}");
    }
    let twice = submit(&app, &body, &[(KEY, "a"), (KEY, "b")]).await;
    assert_eq!(twice.error().await.0, 400);
    assert_eq!(count(&app).await, 0);
}

#[tokio::test]
async fn a_file_that_is_sent_again_is_the_same_file() {
    let app = TestApp::start().await;
    let send = async |boundary: &str, rows: &str, headers: &[(&str, &str)]| {
        let form = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nfine-tune\r\n--{boundary}\r\n\
             Content-Disposition: form-data; name=\"file\"; filename=\"a.jsonl\"\r\n\r\n{rows}\r\n--{boundary}--\r\n"
        );
        let mut request = Request::post("/v1/files").header(
            header::CONTENT_TYPE,
            format!("multipart/form-data; boundary={boundary}"),
        );
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        app.send(request.body(Body::from(form)).unwrap()).await
    };
    let first = text(&send("A", ROWS, &[(RETRIES, "0")]).await.json().await["id"]);
    // A client draws a new boundary for each attempt.
    let again = send("B", ROWS, &[(RETRIES, "1")]).await.json().await;
    assert_eq!(again["id"], first.as_str());
    let keyed = text(&send("A", ROWS, &[(KEY, "f")]).await.json().await["id"]);
    assert_ne!(keyed, first);
    let again = send("B", ROWS, &[(KEY, "f")]).await.json().await;
    assert_eq!(again["id"], keyed.as_str());
    let other = send("A", "{}", &[(KEY, "f")]).await.error().await;
    assert_eq!(other.1, "Idempotency-Key");
    let mut kept = app.uploads();
    kept.sort();
    let mut expected = [first, keyed];
    expected.sort();
    assert_eq!(kept, expected);
}
