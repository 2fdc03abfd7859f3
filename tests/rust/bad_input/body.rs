//! Bodies that are refused before they are read.

use anyhow::{Context, Result};

use super::{Fixture, raw};

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
