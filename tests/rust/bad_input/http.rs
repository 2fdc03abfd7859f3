use anyhow::{Context, Result};
use reqwest::{Method, StatusCode};

use super::{Fixture, Wanted};
use crate::client::answer;

#[tokio::test]
async fn paths_that_lead_nowhere() -> Result<()> {
    let fixture = Fixture::start().await?;
    let id = Some("id");
    let rows: [(Method, &str, Wanted<'_>); 8] = [
        (
            Method::GET,
            "/v1/fine_tuning/jobs/ftjob-none",
            (404, id, "ftjob-none"),
        ),
        (
            Method::POST,
            "/v1/fine_tuning/jobs/ftjob-none/cancel",
            (404, id, "ftjob-none"),
        ),
        (
            Method::GET,
            "/v1/fine_tuning/jobs/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
            (404, id, "no such"),
        ),
        (Method::GET, "/v1/files/file-none", (404, id, "file-none")),
        (
            Method::DELETE,
            "/v1/files/file-none",
            (404, id, "file-none"),
        ),
        (
            Method::GET,
            "/v1/models/nobody/nothing",
            (404, Some("model"), "nobody/nothing"),
        ),
        (Method::GET, "/v1/nothing", (404, None, "/openapi.json")),
        (Method::PUT, "/v1/files", (405, None, "PUT")),
    ];
    for (method, path, wanted) in rows {
        let request = fixture.client().request(method, path);
        fixture.refuse(request, wanted).await.context(path)?;
    }
    Ok(())
}

#[tokio::test]
async fn foreign_pages_are_kept_out() -> Result<()> {
    let fixture = Fixture::start().await?;
    let request = || fixture.client().request(Method::GET, "/v1/files");
    fixture
        .refuse(
            request().header("host", "evil.example"),
            (421, None, "--allow-host"),
        )
        .await?;
    fixture
        .refuse(
            request().header("origin", "http://evil.example"),
            (403, None, "Origin"),
        )
        .await?;
    let own = format!("http://{}", fixture.client().addr);
    let (status, _) = answer(request().header("origin", own)).await?;
    assert_eq!(status, StatusCode::OK);
    Ok(())
}
