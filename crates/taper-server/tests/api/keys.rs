//! Keys and sessions: who is let in, and what for.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Method, Request, header},
};
use futures_util::StreamExt;
use serde_json::json;
use taper_core::{Project, Role};
use taper_server::Token;
use taper_store::Scope;

use crate::{
    app::{Answer, JOBS, TestApp, text},
    client::Client,
};

const SESSION: &str = "/v1/session";

fn of(project: &str) -> Scope {
    Scope::Project(Project::parse(project).unwrap())
}

async fn send(app: &TestApp, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    app.send(request.body(Body::empty()).unwrap()).await
}

async fn with_key(app: &TestApp, path: &str, key: &str) -> Answer {
    let bearer = format!("Bearer {key}");
    send(app, Method::GET, path, &[("authorization", &bearer)]).await
}

/// The cookie of an answer as a browser sends it back, and its attributes.
fn cookie(answer: &Answer) -> (String, String) {
    let (pair, attributes) = answer.header("set-cookie").split_once("; ").unwrap();
    (pair.to_owned(), attributes.to_owned())
}

async fn sign_in(app: &TestApp, key: &str) -> String {
    let body = json!({"key": key}).to_string();
    let answer = app.post_json(SESSION, body).await;
    assert_eq!(answer.status.as_u16(), 200);
    cookie(&answer).0
}

#[tokio::test]
async fn the_first_key_closes_an_open_server_and_revoking_it_does_not_open_it() {
    let app = TestApp::start().await;
    let nonsense = [("authorization", "Bearer unused")];
    let open = send(&app, Method::GET, SESSION, &nonsense)
        .await
        .json()
        .await;
    let anybody =
        json!({"object": "session", "role": "admin", "project": null, "expires_at": null});
    assert_eq!(open, anybody);
    let (id, key) = app.key(Role::Read, of("a")).await;
    assert_eq!(app.get("/v1/models").await.error().await.0, 401);
    assert_eq!(
        with_key(&app, "/v1/models", "unused").await.error().await.0,
        401
    );
    with_key(&app, "/v1/models", &key).await.json().await;
    let who = with_key(&app, SESSION, &key).await.json().await;
    assert_eq!(
        (&who["role"], &who["project"]),
        (&json!("read"), &json!("a"))
    );

    app.key_ring().await.revoke(&id).await.unwrap();
    let (status, _, message) = with_key(&app, "/v1/models", &key).await.error().await;
    assert_eq!(
        (status, message.as_str()),
        (401, "the API key is not valid here")
    );
    assert_eq!(app.get("/v1/models").await.error().await.0, 401);
    for path in ["/", "/healthz", "/readyz", "/openapi.json"] {
        assert_eq!(app.browse(path).await.status.as_u16(), 200, "{path}");
    }
}

/// Azure's client of OpenAI's API shows its key in a header of its own, and puts a version on every request.
#[tokio::test]
async fn azure_s_client_is_let_in() {
    let app = TestApp::start().await;
    let (_, key) = app.key(Role::Submit, of("a")).await;
    let jobs = format!("{JOBS}?api-version=2024-10-21&limit=5");
    let own = ("api-key", key.as_str());
    let answer = send(&app, Method::GET, &jobs, &[own]).await;
    assert_eq!(answer.json().await["data"], json!([]));
    let bearer = format!("Bearer {key}");
    for shown in [
        vec![("api-key", "wrong")],
        vec![("api-key", "")],
        vec![own, own],
        vec![own, ("authorization", &bearer)],
    ] {
        let answer = send(&app, Method::GET, &jobs, &shown).await;
        assert_eq!(answer.error().await.0, 401, "{shown:?}");
    }
    let session = send(&app, Method::POST, SESSION, &[own]).await;
    assert_eq!(session.json().await["project"], "a");
}

#[tokio::test]
async fn on_an_address_for_others_nobody_is_served_without_a_key() {
    let everywhere = "0.0.0.0:8000".parse().unwrap();
    let app = TestApp::start_with(|config| config.bound = everywhere).await;
    assert_eq!(app.get("/v1/models").await.error().await.0, 401);
    assert_eq!(app.get("/metrics").await.error().await.0, 401);
}

#[tokio::test]
async fn only_an_admin_is_shown_the_figures_of_the_server() {
    let app = TestApp::start_with(|config| config.token = Some(Token::new("env"))).await;
    let (_, submit) = app.key(Role::Submit, of("a")).await;
    let (_, read) = app.key(Role::Read, of("a")).await;
    let (_, admin) = app.key(Role::Admin, of("a")).await;
    assert_eq!(app.get("/metrics").await.error().await.0, 401);
    for key in [submit, read] {
        assert_eq!(with_key(&app, "/metrics", &key).await.error().await.0, 403);
    }
    for key in [admin, "env".to_owned()] {
        let figures = with_key(&app, "/metrics", &key).await.text().await;
        assert!(figures.contains("taper_jobs"));
    }
}

#[tokio::test]
async fn a_wrong_key_does_not_sign_in() {
    let app = TestApp::start_with(|config| config.token = Some(Token::new("env"))).await;
    let (_, key) = app.key(Role::Submit, of("a")).await;
    for (body, status, param) in [
        (json!({"key": "wrong"}), 401, "-"),
        (json!({"key": ""}), 400, "key"),
        (json!({"key": key, "more": 1}), 400, "more"),
        (json!([]), 400, "-"),
    ] {
        let (found, about, message) = app.post_json(SESSION, body.to_string()).await.error().await;
        assert_eq!((found, about.as_str()), (status, param), "{message}");
    }
    assert_eq!(app.post(SESSION).await.error().await.0, 401);
}

#[tokio::test]
async fn a_page_signs_in_and_out() {
    let app = TestApp::start_with(|config| config.token = Some(Token::new("env"))).await;
    let (_, key) = app.key(Role::Submit, of("a")).await;
    let by_body = app
        .post_json(SESSION, json!({"key": key}).to_string())
        .await;
    let (pair, attributes) = cookie(&by_body);
    assert_eq!(
        attributes,
        "Path=/; HttpOnly; SameSite=Strict; Max-Age=604800"
    );
    let who = by_body.json().await;
    assert_eq!(
        (&who["role"], &who["project"]),
        (&json!("submit"), &json!("a"))
    );
    assert!(who["expires_at"].as_i64().is_some());
    let bearer = [
        ("authorization", "Bearer env"),
        ("origin", "https://localhost:8000"),
    ];
    let by_header = send(&app, Method::POST, SESSION, &bearer).await;
    let (of_env, attributes) = cookie(&by_header);
    assert!(attributes.ends_with("; Secure"), "{attributes}");

    for (cookie, role) in [(&pair, "submit"), (&of_env, "admin")] {
        let cookie = [("cookie", cookie.as_str())];
        let who = send(&app, Method::GET, SESSION, &cookie).await.json().await;
        assert_eq!(who["role"], role);
        assert!(who["expires_at"].as_i64().is_some());
        send(&app, Method::GET, JOBS, &cookie).await.json().await;
        let changed = send(&app, Method::POST, &format!("{JOBS}/x/cancel"), &cookie).await;
        assert_eq!(changed.error().await.0, 404);
        let other_site = [cookie[0], ("origin", "http://localhost:9")];
        let refused = send(&app, Method::POST, &format!("{JOBS}/x/cancel"), &other_site).await;
        assert_eq!(refused.error().await.0, 403);
        // A key that is shown openly wins, also when it is wrong.
        let wrong = [cookie[0], ("authorization", "Bearer x")];
        assert_eq!(
            send(&app, Method::GET, JOBS, &wrong).await.error().await.0,
            401
        );

        let ended = send(&app, Method::DELETE, SESSION, &cookie).await;
        assert_eq!(ended.status.as_u16(), 204);
        assert!(
            ended
                .header("set-cookie")
                .starts_with("taper_session_8000=; ")
        );
        assert!(ended.header("set-cookie").contains("Max-Age=0"));
        assert_eq!(
            send(&app, Method::GET, JOBS, &cookie).await.error().await.0,
            401
        );
    }
}

#[tokio::test]
async fn a_reader_may_only_look_and_may_sign_out() {
    let app = TestApp::start().await;
    let (id, key) = app.key(Role::Read, of("a")).await;
    let pair = sign_in(&app, &key).await;
    let cookie = [("cookie", pair.as_str())];
    for (method, path) in [
        (Method::POST, "/v1/files"),
        (Method::POST, JOBS),
        (Method::DELETE, "/v1/models/x"),
        (Method::PATCH, "/v1/fine_tuning/jobs/x"),
        (Method::PUT, "/v1/none"),
    ] {
        let (status, _, message) = send(&app, method, path, &cookie).await.error().await;
        assert_eq!(status, 403, "{path}: {message}");
    }
    for method in [Method::GET, Method::HEAD] {
        let looked = send(&app, method, JOBS, &cookie).await;
        assert_eq!(looked.status.as_u16(), 200);
    }
    let ended = send(&app, Method::DELETE, SESSION, &cookie).await;
    assert_eq!(ended.status.as_u16(), 204);

    let pair = sign_in(&app, &key).await;
    app.key_ring().await.revoke(&id).await.unwrap();
    let refused = send(&app, Method::GET, JOBS, &[("cookie", &pair)]).await;
    assert_eq!(refused.error().await.0, 401);
}

#[tokio::test]
async fn a_silent_stream_ends_when_its_page_signs_out() {
    let app = TestApp::start().await;
    let (_, key) = app.key(Role::Submit, of("a")).await;
    let (gone, stays) = (sign_in(&app, &key).await, sign_in(&app, &key).await);
    let mut streams = Vec::new();
    for pair in [&gone, &stays] {
        let cookie = [("cookie", pair.as_str())];
        let answer = send(&app, Method::GET, "/v1/events/stream", &cookie).await;
        let mut stream = answer.body.into_data_stream();
        assert_eq!(stream.next().await.unwrap().unwrap(), "retry: 1000\n");
        streams.push(stream);
    }
    let cookie = [("cookie", gone.as_str())];
    let ended = send(&app, Method::DELETE, SESSION, &cookie).await;
    assert_eq!(ended.status.as_u16(), 204);
    // Long before the next sign of life.
    let soon = Duration::from_secs(3);
    let ends = tokio::time::timeout(soon, streams[0].next()).await;
    assert!(ends.expect("the stream should end").is_none());
    let goes_on = tokio::time::timeout(soon, streams[1].next()).await;
    assert!(goes_on.is_err(), "the other session's stream should go on");
}

#[tokio::test]
async fn the_same_idempotency_key_of_two_keys_makes_two_things() {
    let app = TestApp::start().await;
    let mut made = Vec::new();
    let new = json!({"bytes": 2, "filename": "x", "mime_type": "x", "purpose": "fine-tune"});
    for project in ["a", "b", "a"] {
        let (_, key) = app.key(Role::Submit, of(project)).await;
        for _ in 0..2 {
            let request = Request::post("/v1/uploads")
                .header(header::AUTHORIZATION, format!("Bearer {key}"))
                .header(header::CONTENT_TYPE, "application/json")
                .header("idempotency-key", "same");
            let request = request.body(Body::from(new.to_string())).unwrap();
            made.push(text(&app.send(request).await.json().await["id"]));
        }
    }
    assert!(made[0] == made[1] && made[2] == made[3] && made[4] == made[5]);
    made.dedup();
    assert_eq!(made.len(), 3);
}

#[tokio::test]
async fn a_place_in_the_queue_counts_others_and_shows_nothing_of_them() {
    let app = TestApp::start().await;
    let waits = json!({"metadata": {"script": "wait"}});
    let busy = app.submit(waits.clone()).await;
    app.reach(&busy, "running").await;
    let ahead = app.submit(waits.clone()).await;
    app.reach(&ahead, "queued").await;
    let b = Client::new(&app, Role::Submit, "b").await;
    let new = json!({"model": "tiny", "training_file": b.upload("rows").await});
    let own = text(&b.post(JOBS, &new).await.json().await["id"]);
    let job = loop {
        let job = b.get(&format!("{JOBS}/{own}")).await;
        if job["status"] == "queued" {
            break job;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(job["queue_position"], 2);
    assert_eq!(job["organization_id"], "org-b");
    assert!(!job.to_string().contains(&ahead) && !job.to_string().contains(&busy));
}
