use axum::{
    body::Body,
    http::{Request, header},
};
use serde_json::{Value, json};

use crate::app::{Answer, TestApp, text};

const UPLOADS: &str = "/v1/uploads";

fn body(bytes: usize) -> Value {
    json!({"bytes": bytes, "filename": "rows.jsonl", "purpose": "fine-tune", "mime_type": "text/jsonl"})
}

async fn begin(app: &TestApp, bytes: usize) -> String {
    let upload = app
        .post_json(UPLOADS, body(bytes).to_string())
        .await
        .json()
        .await;
    assert_eq!(
        (&upload["object"], &upload["status"]),
        (&json!("upload"), &json!("pending"))
    );
    assert_eq!(upload["file"], Value::Null);
    text(&upload["id"])
}

async fn add(app: &TestApp, upload: &str, bytes: &str) -> Answer {
    let form = format!(
        "--XX\r\nContent-Disposition: form-data; name=\"data\"; filename=\"part\"\r\n\r\n{bytes}\r\n--XX--\r\n"
    );
    let request = Request::post(format!("{UPLOADS}/{upload}/parts"))
        .header(header::CONTENT_TYPE, "multipart/form-data; boundary=XX")
        .body(Body::from(form));
    app.send(request.unwrap()).await
}

async fn add_part(app: &TestApp, upload: &str, bytes: &str) -> String {
    let part = add(app, upload, bytes).await.json().await;
    assert_eq!(
        (&part["object"], &part["upload_id"]),
        (&json!("upload.part"), &json!(upload))
    );
    text(&part["id"])
}

async fn complete(app: &TestApp, upload: &str, body: Value) -> Answer {
    let path = format!("{UPLOADS}/{upload}/complete");
    app.post_json(&path, body.to_string()).await
}

#[tokio::test]
async fn a_file_comes_in_parts() {
    let app = TestApp::start().await;
    let upload = begin(&app, 11).await;
    // The order is told at the end.
    let world = add_part(&app, &upload, "world").await;
    let hello = add_part(&app, &upload, "hello ").await;
    let asked = json!({"part_ids": [hello, world], "md5": "5EB63BBBE01EEED093CB22BB8F5ACDC3"});
    let done = complete(&app, &upload, asked.clone()).await.json().await;
    assert_eq!(done["status"], "completed");
    assert_eq!(
        (&done["file"]["bytes"], &done["file"]["purpose"]),
        (&json!(11), &json!("fine-tune"))
    );
    let file = text(&done["file"]["id"]);
    let content = app.get(&format!("/v1/files/{file}/content")).await;
    assert_eq!(content.text().await, "hello world");
    assert_eq!(app.uploads(), [file.as_str()], "the parts are gone");

    // A client that did not get the answer asks again; another request is refused (B94).
    let again = complete(&app, &upload, asked).await.json().await;
    assert_eq!(again["file"]["id"], file.as_str());
    let other = complete(&app, &upload, json!({"part_ids": [world]})).await;
    assert!(other.error().await.2.contains("is completed"));
    let late = add(&app, &upload, "more").await.error().await;
    assert_eq!((late.0, late.2.contains("is completed")), (400, true));
    let cancelled = app.post(&format!("{UPLOADS}/{upload}/cancel")).await;
    assert_eq!(cancelled.error().await.0, 400);
}

#[tokio::test]
async fn a_cancelled_upload_leaves_nothing() {
    let app = TestApp::start().await;
    let upload = begin(&app, 4).await;
    let part = add_part(&app, &upload, "half").await;
    assert_eq!(app.uploads().len(), 1);
    for _ in 0..2 {
        let answer = app.post(&format!("{UPLOADS}/{upload}/cancel")).await;
        assert_eq!(answer.json().await["status"], "cancelled");
    }
    assert!(app.uploads().is_empty());
    let late = complete(&app, &upload, json!({"part_ids": [part]})).await;
    assert!(late.error().await.2.contains("is cancelled"));
}

#[tokio::test]
async fn wrong_uploads_are_refused_by_field() {
    let app = TestApp::start().await;
    let with = |name: &str, value: Value| {
        let mut body = body(3);
        body[name] = value;
        body
    };
    let anchor = json!({"anchor": "last_active_at", "seconds": 3600});
    for (body, param) in [
        (with("bytes", json!(0)), "bytes"),
        (with("bytes", json!(9_000_000_000_u64)), "bytes"),
        (with("bytes", Value::Null), "bytes"),
        (with("bytes", json!(-1)), "bytes"),
        (with("bytes", json!("10")), "bytes"),
        (with("filename", Value::Null), "filename"),
        (with("filename", json!("")), "filename"),
        (with("purpose", json!("training")), "purpose"),
        (with("mime_type", json!(1)), "mime_type"),
        (with("expires_after", anchor), "expires_after.anchor"),
        (with("expires", json!({})), "expires"),
        (json!([]), "-"),
    ] {
        let answer = app.post_json(UPLOADS, body.to_string()).await.error().await;
        assert_eq!((answer.0, answer.1.as_str()), (400, param), "{body}");
    }
    let upload = begin(&app, 6).await;
    let part = add_part(&app, &upload, "four").await;
    let long = add(&app, &upload, "and").await.error().await;
    assert_eq!((long.0, long.1.as_str()), (400, "data"), "{}", long.2);
    for (body, param) in [
        (json!({"part_ids": [part]}), "part_ids"),
        (json!({"part_ids": [part, part]}), "part_ids"),
        (json!({"part_ids": ["part-none"]}), "part_ids"),
        (json!({"part_ids": []}), "part_ids"),
        (json!({"part_ids": [1]}), "part_ids"),
        (json!({}), "part_ids"),
    ] {
        let answer = complete(&app, &upload, body.clone()).await.error().await;
        assert_eq!((answer.0, answer.1.as_str()), (400, param), "{body}");
    }
    let rest = add_part(&app, &upload, "ty").await;
    let wrong = json!({"part_ids": [part, rest], "md5": "00"});
    assert_eq!(complete(&app, &upload, wrong).await.error().await.1, "md5");
    for path in ["parts", "complete", "cancel"] {
        let path = format!("{UPLOADS}/upload-none/{path}");
        let missing = match path.ends_with("parts") {
            true => add(&app, "upload-none", "x").await,
            false => app.post_json(&path, "{\"part_ids\": [\"x\"]}").await,
        };
        assert_eq!(missing.error().await.0, 404, "{path}");
    }
    assert_eq!(app.uploads().len(), 2, "both parts and nothing else");
}
