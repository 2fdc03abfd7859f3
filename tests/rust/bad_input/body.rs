use anyhow::{Context, Result};
use reqwest::{Method, header::CONTENT_TYPE};
use serde_json::json;

use super::{Fixture, Wanted};

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
