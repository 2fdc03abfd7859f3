//! B80 to B88: query strings.

use anyhow::{Context, Result};
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{Fixture, JOBS, rows};
use crate::client::answer;

/// Number, path and query, param, a part of the message: 400. JOB stands for a job that has ended.
const QUERIES: &str = r#"
B80 | /v1/files?limit=0 | limit | from 1 to 10000, not 0
B80 | /v1/fine_tuning/jobs?limit=-1 | limit | from 1 to 10000, not -1
B80 | /v1/fine_tuning/jobs?limit=1000000000 | limit | from 1 to 10000
B80 | /v1/fine_tuning/jobs?limit=abc | limit | not abc
B80 | /v1/fine_tuning/jobs?limit= | limit | must be a whole number
B80 | /v1/fine_tuning/jobs?limit=1e3 | limit | not 1e3
B80 | /v1/fine_tuning/jobs?limit=%2B1 | limit | not +1
B81 | /v1/fine_tuning/jobs?after=ftjob-none | after | names nothing in this list
B81 | /v1/fine_tuning/jobs?after=ZmlsZS0x%3D%3D | after | names nothing in this list
B81 | /v1/fine_tuning/jobs?after= | after | names nothing in this list
B81 | /v1/fine_tuning/jobs?after=FILE | after | names nothing in this list
B81 | /v1/files?after=JOB | after | names nothing in this list
B81 | /v1/files?after=file-none | after | names nothing in this list
B81 | /v1/fine_tuning/jobs/JOB/events?after=ftevent-x | after | names nothing in this list
B81 | /v1/fine_tuning/jobs/JOB/events?after=12 | after | names nothing in this list
B81 | /v1/fine_tuning/jobs/JOB/events?after=ftevent-99999999999999999999 | after | names nothing in this list
B81 | /v1/fine_tuning/jobs/JOB/checkpoints?after=ftckpt-none | after | names nothing in this list
B82 | /v1/fine_tuning/jobs?status=foo | status | known here: metadata, after, limit
B82 | /v1/fine_tuning/jobs?status[]=queued | status[] | unknown query parameter
B82 | /v1/fine_tuning/jobs?limit=1&limit=2 | limit | only once
B82 | /v1/fine_tuning/jobs?after=JOB&after=JOB | after | only once
B82 | /v1/fine_tuning/jobs?limt=1 | limt | did you mean 'limit'?
B82 | /v1/fine_tuning/jobs?metadata=none | metadata | or null by itself
B82 | /v1/fine_tuning/jobs?metadata[a]=1&metadata[a]=2 | metadata | each key once
B82 | /v1/fine_tuning/jobs?metadata[]=1 | metadata | metadata[key]=value
B82 | /v1/files?order=up | order | must be asc or desc, not up
B82 | /v1/files?purpose=x&purpose=y | purpose | only once
B83 | /v1/fine_tuning/jobs?sort=id;drop | sort | unknown query parameter
B84 | /v1/fine_tuning/jobs?q=%25 | q | unknown query parameter
B85 | /v1/fine_tuning/jobs/JOB/metrics?points=0 | points | from 1 to 10000
B85 | /v1/fine_tuning/jobs/JOB/metrics?points=1000000000 | points | from 1 to 10000
B85 | /v1/fine_tuning/jobs/JOB/metrics?from=5&to=4 | from | which is after 'to' (4)
B85 | /v1/fine_tuning/jobs/JOB/metrics?from=99999999999999999999 | from | whole number
B86 | /v1/fine_tuning/jobs/JOB/metrics?names=a,,b | names | 1 to 100 elements
B88 | /v1/fine_tuning/jobs?after=%ff%fe | after | names nothing in this list
B88 | /v1/fine_tuning/jobs?%ff=1 | � | unknown query parameter
B88 | /v1/fine_tuning/jobs?limit=%zz | limit | not %zz
"#;

/// Number, path and query: an empty answer, but an answer.
const EMPTY: &str = r#"
B85 | /v1/fine_tuning/jobs/JOB/metrics?points=1&names=none
B86 | /v1/fine_tuning/jobs/JOB/metrics?names=__proto__
B86 | /v1/fine_tuning/jobs/JOB/metrics?names=constructor,toString
"#;

#[tokio::test]
async fn queries_that_are_wrong() -> Result<()> {
    let fixture = Fixture::start().await?;
    let training = json!({"training": {"max_steps": 2}});
    let job = fixture.client().submit(&fixture.train, training).await?;
    fixture.client().wait(&job, "succeeded").await?;
    let real = |path: &str| path.replace("JOB", &job).replace("FILE", &fixture.train);
    for [number, path, param, message] in rows(QUERIES) {
        let request = fixture.client().request(Method::GET, &real(path));
        let wanted = (400, Some(param), message);
        let shown = || format!("{number}: {path}");
        fixture.refuse(request, wanted).await.with_context(shown)?;
    }
    for [number, path] in rows(EMPTY) {
        let (status, body) = answer(fixture.client().request(Method::GET, &real(path))).await?;
        assert_eq!(
            (status, &body["data"]),
            (StatusCode::OK, &json!({})),
            "{number}: {path}"
        );
    }
    Ok(())
}

/// B84, B87: too long for a table.
#[tokio::test]
async fn queries_that_are_too_long() -> Result<()> {
    let fixture = Fixture::start().await?;
    let ids = |count: usize| vec!["ftjob-none"; count].join(",");
    for (number, path, param, message) in [
        (
            "B84",
            format!("{JOBS}?after={}", "x".repeat(10_000)),
            "after",
            "names nothing",
        ),
        (
            "B86",
            format!("{JOBS}/ftjob-none/metrics?names={}", ids(101)),
            "names",
            "1 to 100",
        ),
        (
            "B87",
            format!("/v1/events/stream?jobs={}", ids(101)),
            "jobs",
            "1 to 100",
        ),
        (
            "B87",
            format!("/v1/events/stream?jobs={}", ids(2000)),
            "jobs",
            "1 to 100",
        ),
    ] {
        let request = fixture.client().request(Method::GET, &path);
        fixture
            .refuse(request, (400, Some(param), message))
            .await
            .context(number)?;
    }
    Ok(())
}
