//! B1 to B9, B35: bodies that are no JSON object, and bodies that are refused before they are read.

use anyhow::{Context, Result};
use reqwest::{Method, header::CONTENT_TYPE};
use serde_json::json;

use super::{Fixture, JOBS, raw};

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn text_that_is_no_json_object() -> Result<()> {
    let fixture = Fixture::start().await?;
    let good = fixture.body(json!({})).to_string();
    let steps = "\"max_steps\":1";
    let deep = "[".repeat(129) + &"]".repeat(129);
    let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let latin = [
        &good.as_bytes()[..good.len() - 1],
        b", \"suffix\": \"\xe9\"}",
    ]
    .concat();
    let rows: [(&str, Vec<u8>, &str); 21] = [
        ("B1", "".into(), "the body is empty"),
        ("B1", " \r\n".into(), "the body is empty"),
        ("B2", "null".into(), "must be a JSON object, not null"),
        ("B2", "[]".into(), "must be a JSON object, not []"),
        ("B2", "\"x\"".into(), "must be a JSON object, not \"x\""),
        ("B2", "1".into(), "must be a JSON object, not 1"),
        ("B3", good.as_bytes()[..good.len() - 2].to_vec(), "EOF"),
        ("B4", format!("{good} {good}").into(), "trailing characters"),
        (
            "B5",
            good.replacen('{', "{\"model\": 1, ", 1).into(),
            "stands twice",
        ),
        (
            "B5",
            good.replace(steps, "\"seed\":1,\"seed\":9").into(),
            "stands twice",
        ),
        (
            "B7",
            format!("{{\"model\": {deep}}}").into(),
            "recursion limit",
        ),
        ("B9", utf16, "not valid JSON"),
        ("B9", format!("\u{feff}{good}").into(), "not valid JSON"),
        ("B9", latin, "not valid JSON"),
        (
            "B9",
            good.replace("tiny", "\\ud800").into(),
            "not valid JSON",
        ),
        (
            "B10",
            good.replace(steps, "\"seed\":NaN").into(),
            "not valid JSON",
        ),
        (
            "B10",
            good.replace(steps, "\"seed\":-Infinity").into(),
            "not valid JSON",
        ),
        (
            "B10",
            good.replace(steps, "\"seed\":1e400").into(),
            "out of range",
        ),
        (
            "B35",
            good.replace(steps, &format!("{steps},")).into(),
            "trailing comma",
        ),
        ("B35", format!("// a job\n{good}").into(), "not valid JSON"),
        (
            "B35",
            good.replace(steps, &format!("/* one */ {steps}")).into(),
            "not valid JSON",
        ),
    ];
    for (number, body, message) in rows {
        let shown = format!(
            "{number}: {}",
            String::from_utf8_lossy(&body[..body.len().min(80)])
        );
        let request = fixture.post(JOBS, body);
        fixture
            .refuse(request, (400, None, message))
            .await
            .context(shown)?;
    }
    Ok(())
}

/// B8.
#[tokio::test]
async fn a_body_that_is_too_large() -> Result<()> {
    let fixture = Fixture::start().await?;
    let body = |bytes: usize| format!("{{\"model\": \"{}\"}}", "x".repeat(bytes - 13));
    let just = (400, Some("training_file"), "missing");
    fixture
        .refuse(fixture.post(JOBS, body(1 << 20)), just)
        .await?;
    let over = (413, None, "1048576 bytes");
    fixture
        .refuse(fixture.post(JOBS, body((1 << 20) + 1)), over)
        .await
}

/// B64, B73: a body whose type says that it is something else, or nothing.
#[tokio::test]
async fn another_content_type() -> Result<()> {
    let fixture = Fixture::start().await?;
    let good = fixture.body(json!({})).to_string();
    let client = fixture.client();
    let json = "application/json";
    for (method, path) in [
        (Method::POST, JOBS),
        (Method::POST, "/v1/files"),
        (Method::POST, "/v1/uploads"),
        (Method::POST, "/v1/fine_tuning/jobs/ftjob-none/cancel"),
        (Method::PATCH, "/v1/fine_tuning/jobs/ftjob-none"),
        (Method::DELETE, "/v1/files/file-none"),
        (Method::GET, "/v1/files"),
        (Method::PUT, "/v1/nothing"),
    ] {
        for content_type in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/jsonx",
            "*/*",
            "",
        ] {
            let request = client
                .request(method.clone(), path)
                .header(CONTENT_TYPE, content_type);
            let shown = format!("{method} {path} {content_type}");
            fixture
                .refuse(request.body(good.clone()), (415, None, json))
                .await
                .context(shown)?;
        }
        let untyped = client.request(method, path).body(good.clone());
        fixture.refuse(untyped, (415, None, json)).await?;
    }
    let form = client
        .request(Method::POST, JOBS)
        .header(CONTENT_TYPE, "multipart/form-data; boundary=x");
    fixture
        .refuse(form.body(good.clone()), (415, None, json))
        .await?;
    let wanted = (415, None, "multipart/form-data");
    fixture
        .refuse(fixture.post("/v1/files", good), wanted)
        .await
}

/// The client writes all of the body before it looks for the answer, which comes long before.
#[tokio::test]
async fn bodies_that_are_refused_unread_get_their_answers() -> Result<()> {
    let fixture = Fixture::start().await?;
    let addr = &fixture.client().addr;
    let length = 32 << 20;
    let body = vec![b'x'; length];
    let json = "Content-Type: application/json";
    let form = "Content-Type: multipart/form-data; boundary=x";
    let rows = [
        ("POST /v1/fine_tuning/jobs", json.to_owned(), 413),
        (
            "POST /v1/fine_tuning/jobs",
            "Content-Type: text/plain".to_owned(),
            415,
        ),
        (
            "POST /v1/fine_tuning/jobs",
            format!("{json}\r\nContent-Encoding: gzip"),
            415,
        ),
        ("POST /v1/files", json.to_owned(), 415),
        (
            "POST /v1/files",
            format!("{form}\r\nOrigin: http://evil"),
            403,
        ),
        ("POST /v1/nothing", json.to_owned(), 404),
        ("PUT /v1/files", json.to_owned(), 405),
    ];
    for (route, headers, status) in rows {
        let head = format!(
            "{route} HTTP/1.1\r\nHost: {addr}\r\n{headers}\r\nContent-Length: {length}\r\n\r\n"
        );
        let answer = raw::exchange(addr, &[head.as_bytes(), &body].concat()).await;
        let answer = answer.context(route)?.context("no answer")?;
        assert_eq!(answer.status, status, "{route} {headers}");
        answer.error()?;
    }
    Ok(())
}
