use axum::{
    body::Body,
    http::{Request, header},
};
use taper_server::Token;

use crate::{
    app::{JOBS, TestApp, get},
    bad_input::rows,
};

#[tokio::test]
async fn only_names_of_this_server_are_answered() {
    let app = TestApp::start_with(|config| config.allow_hosts = vec!["box.lan".to_owned()]).await;
    for path in [
        "/v1/models",
        "/healthz",
        "/",
        "/v1/events/stream",
        "/v1/none",
    ] {
        for host in [
            "evil.com",
            "localhost.evil.com",
            "",
            "127.0.0.1.evil.com:8000",
        ] {
            let request = get(path).header(header::HOST, host).body(Body::empty());
            let (status, _, message) = app.send(request.unwrap()).await.error().await;
            assert_eq!(status, 421, "{host} {path}");
            assert!(message.contains("--allow-host"));
        }
    }
    for host in [
        "localhost",
        "127.0.0.1:8000",
        "[::1]:9",
        "box.lan:8000",
        "BOX.lan",
    ] {
        let request = get("/v1/models").header(header::HOST, host);
        app.send(request.body(Body::empty()).unwrap())
            .await
            .json()
            .await;
    }
    let twice = get("/v1/models")
        .header(header::HOST, "localhost")
        .header(header::HOST, "evil.com");
    let answer = app.send(twice.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.error().await.0, 421);
    let absolute = get("http://evil.com/v1/models")
        .body(Body::empty())
        .unwrap();
    assert_eq!(app.send(absolute).await.error().await.0, 421);
}

#[tokio::test]
async fn other_sites_are_refused() {
    let app = TestApp::start().await;
    for (method, path) in [
        ("POST", JOBS),
        ("DELETE", "/v1/files/x"),
        ("GET", "/v1/events/stream"),
        ("GET", "/healthz"),
        ("OPTIONS", JOBS),
    ] {
        for origin in [
            "http://evil",
            "null",
            "http://localhost",
            "http://localhost:9",
            "file://",
            "localhost:8000",
        ] {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header(header::ORIGIN, origin);
            let answer = app.send(request.body(Body::empty()).unwrap()).await;
            assert!(answer.headers.get("access-control-allow-origin").is_none());
            assert_eq!(answer.error().await.0, 403, "{origin} {method} {path}");
        }
    }
    for origin in ["http://localhost:8000", "https://LOCALHOST:8000"] {
        let request = get("/v1/models").header(header::ORIGIN, origin);
        app.send(request.body(Body::empty()).unwrap())
            .await
            .json()
            .await;
    }
}

/// Query, the headers Authorization (;; between two of them, - for none), status, param, a part of the message.
const TOKENS: &str = "
- | - | 401 | - | Authorization: Bearer KEY
- | secret | 401 | - | Authorization: Bearer KEY
- | Bearer | 401 | - | Authorization: Bearer KEY
- | Basic secret | 401 | - | Authorization: Bearer KEY
- | Bearer wrong | 401 | - | not valid here
- | Bearer secret x | 401 | - | not valid here
- | Bearer secret;;Bearer secret | 401 | - | one header
?api_key=secret | - | 401 | - | Authorization: Bearer KEY
?token=secret | Bearer secret | 400 | token | refused, for addresses are logged
?limit=1&API_KEY=secret | Bearer secret | 400 | API_KEY | refused, for addresses are logged
";

#[tokio::test]
async fn a_token_guards_the_api_alone() {
    let app = TestApp::start_with(|config| config.token = Some(Token::new("secret"))).await;
    let long = format!("Bearer {}", "x".repeat(10_000));
    for path in ["/v1/models", JOBS, "/v1/events/stream", "/v1/none"] {
        let ask = async |query: &str, shown: &[&str]| {
            let mut request = get(&format!("{path}{query}"));
            for value in shown {
                request = request.header(header::AUTHORIZATION, *value);
            }
            app.send(request.body(Body::empty()).unwrap()).await
        };
        for [query, shown, status, param, message] in rows(TOKENS) {
            let values: Vec<_> = shown.split(";;").filter(|value| *value != "-").collect();
            let answer = ask(query.trim_start_matches('-'), &values).await;
            let challenged = answer.headers.contains_key(header::WWW_AUTHENTICATE);
            assert_eq!(challenged, status == "401");
            let (got, named, told) = answer.error().await;
            let wanted = (status.parse().unwrap(), param);
            assert_eq!(
                (got, named.as_str()),
                wanted,
                "{path}{query} {shown}: {told}"
            );
            assert!(told.contains(message), "{path}{query} {shown}: {told}");
        }
        for shown in ["", "Bearer ", long.as_str()] {
            assert_eq!(ask("", &[shown]).await.error().await.0, 401, "{shown:.20}");
        }
    }
    for shown in ["Bearer secret", "bearer secret"] {
        let request = get("/v1/models").header(header::AUTHORIZATION, shown);
        app.send(request.body(Body::empty()).unwrap())
            .await
            .json()
            .await;
    }
    for path in ["/", "/healthz", "/readyz", "/openapi.json"] {
        assert_eq!(app.browse(path).await.status.as_u16(), 200, "{path}");
    }
}

#[tokio::test]
async fn every_answer_is_guarded() {
    let app = TestApp::start().await;
    for path in ["/", "/v1/models", "/v1/none", "/healthz", "/openapi.json"] {
        let answer = app.browse(path).await;
        let policy = answer.header("content-security-policy");
        for part in [
            "default-src 'self'",
            "object-src 'none'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("script-src"));
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin");
        assert!(answer.header("x-request-id").starts_with("req_"));
    }
    assert_eq!(
        app.get("/v1/models").await.header("cache-control"),
        "no-store"
    );
    let (one, two) = (app.get("/healthz").await, app.get("/healthz").await);
    assert_ne!(one.header("x-request-id"), two.header("x-request-id"));
}
