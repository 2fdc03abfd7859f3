use anyhow::{Context, Result};
use reqwest::{Method, header::CONTENT_TYPE};
use serde_json::json;

use super::{Fixture, Wanted, raw};

async fn refuse(
    fixture: &Fixture,
    content_type: &str,
    body: &str,
    wanted: Wanted<'_>,
) -> Result<()> {
    let client = fixture.client();
    let request = client.request(Method::POST, "/v1/fine_tuning/jobs");
    let request = request
        .header(CONTENT_TYPE, content_type)
        .body(body.to_owned());
    let shown: String = body.chars().take(80).collect();
    fixture.refuse(request, wanted).await.context(shown)
}

#[tokio::test]
async fn text_that_is_no_json_object() -> Result<()> {
    let fixture = Fixture::start().await?;
    let good = fixture.body(json!({})).to_string();
    let steps = "\"max_steps\":1";
    let deep = "[".repeat(200) + &"]".repeat(200);
    let rows = [
        (String::new(), "the body is empty"),
        ("null".to_owned(), "JSON object"),
        ("[]".to_owned(), "JSON object"),
        (good[..good.len() - 2].to_owned(), "EOF"),
        (format!("{good} {good}"), "trailing characters"),
        (good.replacen('{', "{\"model\": 1, ", 1), "stands twice"),
        (format!("{{\"model\": {deep}}}"), "recursion limit"),
        (good.replace(steps, &format!("{steps},")), "trailing comma"),
        (good.replace(steps, "\"seed\":NaN"), "not valid JSON"),
        (good.replace(steps, "\"seed\":1e400"), "out of range"),
    ];
    for (body, message) in &rows {
        let wanted = (400, None, *message);
        refuse(&fixture, "application/json", body, wanted).await?;
    }
    Ok(())
}

#[tokio::test]
async fn another_content_type() -> Result<()> {
    let fixture = Fixture::start().await?;
    let good = fixture.body(json!({})).to_string();
    for content_type in ["text/plain", "application/x-www-form-urlencoded"] {
        let wanted = (415, None, "application/json");
        refuse(&fixture, content_type, &good, wanted).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_body_that_is_too_large() -> Result<()> {
    let fixture = Fixture::start().await?;
    let large = format!("{{\"model\": \"{}\"}}", "x".repeat(1 << 20));
    let wanted = (413, None, "1048576 bytes");
    refuse(&fixture, "application/json", &large, wanted).await
}

/// The client writes all of the body before it looks for the answer, which comes long before.
#[tokio::test]
async fn bodies_that_are_refused_unread_get_their_answers() -> Result<()> {
    let fixture = Fixture::start().await?;
    let addr = &fixture.client().addr;
    let length = 32 << 20;
    let body = vec![b'x'; length];
    let rows = [
        (
            "POST /v1/fine_tuning/jobs",
            "Content-Type: application/json",
            413,
        ),
        ("POST /v1/fine_tuning/jobs", "Content-Type: text/plain", 415),
        ("POST /v1/files", "Content-Type: application/json", 415),
        (
            "POST /v1/files",
            "Content-Type: multipart/form-data; boundary=x\r\nOrigin: http://evil",
            403,
        ),
        (
            "POST /v1/fine_tuning/jobs",
            "Content-Type: application/json\r\nContent-Encoding: gzip",
            415,
        ),
        ("POST /v1/nothing", "Content-Type: application/json", 404),
        ("PUT /v1/files", "Content-Type: application/json", 405),
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
