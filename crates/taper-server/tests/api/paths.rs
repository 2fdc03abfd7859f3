//! Paths that lead nowhere, and methods that are not possible.

use axum::{
    body::Body,
    http::{Request, header},
};
use serde_json::json;

use crate::{
    app::{JOBS, TestApp, text},
    bad_input::rows,
};

/// Number, method, path, status, param (- = none), a part of the message. JOB and FILE stand for what there is.
const PATHS: &str = r#"
B37 | GET | /v1/fine_tuning/jobs/../../etc/passwd | 404 | - | no such route
B37 | GET | /../../../../etc/passwd/../v1 | 404 | - | no such route
B37 | GET | /v1/../etc/passwd | 404 | - | no such route
B38 | GET | /v1/fine_tuning/jobs/%2e%2e%2f%2e%2e%2fetc%2fpasswd | 404 | id | no such fine-tuning job: '../../etc/passwd'
B38 | GET | /v1/files/%2e%2e/content | 404 | id | no such file: '..'
B38 | DELETE | /v1/files/%2e%2e%2ftaper.db | 404 | id | no such file: '../taper.db'
B38 | GET | /v1/models/%2e%2e%2f%2e%2e%2fetc | 404 | model | ../../etc
B38 | DELETE | /v1/models/%2e%2e%2fdata | 404 | model | ../data
B38 | GET | /v1/fine_tuning/jobs/JOB/artifacts/%2e%2e%2f%2e%2e%2ftaper.db | 404 | path | no such artifact
B38 | GET | /v1/fine_tuning/jobs/JOB/artifacts/../../../taper.db | 404 | path | no such artifact
B39 | GET | /v1/fine_tuning/jobs/%252e%252e%252fetc | 404 | id | no such fine-tuning job: '%2e%2e%2fetc'
B39 | GET | /v1/fine_tuning/jobs/JOB/artifacts/%252e%252e%252ftaper.db | 404 | path | no such artifact
B40 | GET | /v1/files/..\..\taper.db | 404 | id | no such file
B40 | GET | /v1/files/%2e%2e%5c%2e%2e%5ctaper.db | 404 | id | no such file
B41 | GET | /v1/files//etc/passwd | 404 | - | no such route
B41 | GET | /v1/files/%2fetc%2fpasswd | 404 | id | no such file: '/etc/passwd'
B41 | GET | /v1/models//etc/passwd | 404 | model | /etc/passwd
B42 | GET | /v1/files/FILE%00.safetensors | 404 | id | no such file
B42 | GET | /v1/fine_tuning/jobs/JOB/artifacts/%00 | 404 | path | no such artifact
B43 | GET | /v1/files/%c0%ae%c0%ae | 400 | - | the path cannot be read
B43 | GET | /v1/models/%ff | 400 | - | the path cannot be read
B44 | GET | /v1/fine_tuning/jobs/ftJoB-1 | 404 | id | no such fine-tuning job: 'ftJoB-1'
B44 | GET | /v1/files/%7BFILE%7D | 404 | id | no such file
B44 | GET | /v1/files/-1 | 404 | id | no such file: '-1'
B44 | GET | /v1/files/0x10 | 404 | id | no such file: '0x10'
B44 | POST | /v1/fine_tuning/jobs/ftjob-none/cancel | 404 | id | no such fine-tuning job: 'ftjob-none'
B45 | GET | /v1/files/FILE. | 404 | id | no such file
B45 | GET | /v1/files/FILE%20 | 404 | id | no such file
B45 | GET | /v1/files/CON | 404 | id | no such file: 'CON'
B45 | GET | /v1/files/. | 404 | id | no such file: '.'
B45 | DELETE | /v1/files/%20 | 404 | id | no such file
B41 | GET | /v1/files/%2fetc%2fpasswd/content | 404 | id | no such file
B44 | GET | /v1/files/a%1b%5b31m | 404 | id | no such file: 'a\u{1b}[31m'; GET /v1/files lists what there is
B44 | GET | /v1/models/none | 404 | model | no such model: 'none'; GET /v1/models
B44 | GET | /v1/models/a/b/c | 404 | model | no such model: 'a/b/c'
B44 | GET | /v1 | 404 | - | no such route
B44 | GET | /v1/none | 404 | - | no such route
B44 | GET | /v1/fine_tuning/jobs/ftjob-none/events | 404 | id | 'ftjob-none'
B44 | GET | /v1/fine_tuning/jobs/ftjob-none/checkpoints | 404 | id | 'ftjob-none'
B44 | GET | /v1/fine_tuning/jobs/ftjob-none/metrics | 404 | id | 'ftjob-none'
B44 | GET | /v1/fine_tuning/jobs/ftjob-none/artifacts | 404 | id | 'ftjob-none'
B44 | GET | /v1/fine_tuning/jobs/ftjob-none/artifacts/x | 404 | id | 'ftjob-none'
B44 | GET | /v1/fine_tuning/jobs/ftjob-none/adapter.zip | 404 | id | 'ftjob-none'
B44 | GET | /v1/fine_tuning/jobs/ftjob-none/model.zip | 404 | id | 'ftjob-none'
"#;

/// B37 to B45.
#[tokio::test]
async fn paths_that_lead_nowhere() {
    let app = TestApp::start().await;
    let job = app.submit(json!({})).await;
    let file = text(&app.wait(&job).await["training_file"]);
    for [number, method, path, status, param, message] in rows(PATHS) {
        let path = path.replace("JOB", &job).replace("FILE", &file);
        let request = Request::builder().method(method).uri(&path);
        let answer = app.send(request.body(Body::empty()).unwrap()).await;
        let (got, named, told) = answer.error().await;
        let wanted = (status.parse().unwrap(), param);
        assert_eq!((got, named.as_str()), wanted, "{number}: {path}: {told}");
        assert!(
            told.contains(message) && told.len() < 250,
            "{number}: {path}: {told}"
        );
    }
    let long = format!("{JOBS}/{}", "x".repeat(8192));
    let (status, _, told) = app.get(&long).await.error().await;
    assert_eq!((status, told.len() < 250), (404, true), "{told}");
    assert!(app.uploads().contains(&file));
}

/// A client whose base URL is not quite right hears so, and never gets a page as if it were an answer.
#[tokio::test]
async fn base_urls_that_are_not_quite_right() {
    let app = TestApp::start().await;
    for (method, path, hint) in [
        ("GET", "/files", "did you mean /v1/files?"),
        ("POST", "/files", "did you mean /v1/files?"),
        ("GET", "/models/a/b", "did you mean /v1/models/a/b?"),
        (
            "GET",
            "/fine_tuning/jobs?limit=1",
            "did you mean /v1/fine_tuning/jobs?",
        ),
        (
            "POST",
            "/fine_tuning/jobs/x/cancel",
            "did you mean /v1/fine_tuning/jobs/x/cancel?",
        ),
        ("GET", "/experiments", "did you mean /v1/experiments?"),
        ("POST", "/experiments", "did you mean /v1/experiments?"),
        ("GET", "/v1/v1/files", "did you mean /v1/files?"),
        ("GET", "/api/v1/files", "did you mean /v1/files?"),
        (
            "GET",
            "/openai/fine_tuning/jobs",
            "did you mean /v1/fine_tuning/jobs?",
        ),
        ("GET", "/", "GET /openapi.json lists"),
        ("GET", "/anything", "GET /openapi.json lists"),
        ("GET", "/favicon.ico", "GET /openapi.json lists"),
        (
            "POST",
            "/v1/chat/completions",
            "trains models and does not run them",
        ),
        ("POST", "/chat/completions", "with PEFT"),
        ("POST", "/v1/completions", "adapter.zip"),
        ("POST", "/v1/embeddings", "adapter.zip"),
        ("POST", "/v1/responses", "adapter.zip"),
    ] {
        let request = Request::builder().method(method).uri(path);
        let request = request.header(header::ACCEPT, "application/json");
        let answer = app.send(request.body(Body::empty()).unwrap()).await;
        let (status, param, message) = answer.error().await;
        assert_eq!(
            (status, param.as_str()),
            (404, "-"),
            "{method} {path}: {message}"
        );
        assert!(message.contains(hint), "{method} {path}: {message}");
    }
    let (status, _, _) = app.browse("/anything").await.error().await;
    assert_eq!(status, 404);
}

/// B68: every route of the description, and a view of the page, with every method that it does not have.
#[tokio::test]
async fn methods_that_a_route_does_not_have() {
    let app = TestApp::start().await;
    let mut routes = serde_json::to_value(taper_server::openapi()).unwrap()["paths"].take();
    routes["/jobs/x"] = json!({"get": {}});
    for (path, operations) in routes.as_object().unwrap() {
        let named = operations.as_object().unwrap().keys();
        let mut allowed: Vec<_> = named.map(|method| method.to_uppercase()).collect();
        if allowed.iter().any(|method| method == "GET") {
            allowed.push("HEAD".to_owned());
        }
        allowed.sort_unstable();
        for method in [
            "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND",
        ] {
            if allowed.iter().any(|it| it == method) {
                continue;
            }
            let request = Request::builder()
                .method(method)
                .uri(path.replace(['{', '}'], ""));
            let answer = app.send(request.body(Body::empty()).unwrap()).await;
            let mut allow: Vec<_> = answer.header("allow").split(',').collect();
            allow.sort_unstable();
            assert_eq!(allow, allowed, "{method} {path}");
            assert_eq!(answer.status.as_u16(), 405, "{method} {path}");
        }
    }
}
