//! The tables of bad input: each row has its exact status, its param and a part of its message. The numbers are those of
//! `tests/rust/bad_input`, which has what needs a socket, a model or data.

use axum::{
    body::Body,
    http::{Method, Request, header},
};
use serde_json::{Value, json};

use crate::app::{JOBS, PURPOSE, ROWS, TestApp, get, text};

/// The rows of a table, whose columns have ` | ` between them.
pub(crate) fn rows<const N: usize>(table: &str) -> impl Iterator<Item = [&str; N]> {
    table.lines().filter(|line| !line.is_empty()).map(|line| {
        let columns: Vec<_> = line.split(" | ").collect();
        <[&str; N]>::try_from(columns).unwrap_or_else(|_| panic!("not a row: {line}"))
    })
}

/// What a refusal must not change.
async fn held(app: &TestApp) -> (Value, Value, usize) {
    let files = app.get("/v1/files").await.json().await;
    let jobs = app.get(JOBS).await.json().await;
    (files, jobs, app.uploads().len())
}

/// Number, body, param (- = none), a part of the message. GOOD stands for a good body without its braces, DEEP for a list in lists.
const BODIES: &str = r#"
B2 | null | - | must be a JSON object, not null
B2 | [] | - | must be a JSON object, not []
B2 | "x" | - | must be a JSON object, not "x"
B2 | 1 | - | must be a JSON object, not 1
B2 | {} | model | missing required parameter: 'model'; missing required parameter: 'training_file'
B3 | {GOOD | - | not valid JSON: EOF
B4 | {GOOD} {GOOD} | - | trailing characters
B5 | {GOOD, "model": "tiny"} | - | the key "model" stands twice in one object
B5 | {GOOD, "hyperparameters": {"n_epochs": 1, "n_epochs": 9}} | - | "n_epochs" stands twice
B6 | {GOOD, "learnig_rate": 1} | learnig_rate | unknown parameter
B6 | {GOOD, "trainning": {}} | trainning | did you mean 'training'?
B7 | {GOOD, "x": DEEP} | - | recursion limit
B9 | {GOOD, "suffix": "\ud800"} | - | not valid JSON: unexpected end of hex escape
B10 | {GOOD, "training": {"learning_rate": NaN}} | - | not valid JSON
B10 | {GOOD, "training": {"learning_rate": -Infinity}} | - | not valid JSON
B10 | {GOOD, "training": {"learning_rate": 1e400}} | - | number out of range
B14 | {GOOD, "training": {"max_length": 999}} | training.max_length | at most 256 tokens
B23 | {GOOD, "suffix": "a/b", "training": {"seed": -1}} | suffix | 'training.seed' must be
B26 | {"model": "none", "training_file": "FILE"} | model | the model "none" does not exist; GET /v1/models
B26 | {"model": "../tiny", "training_file": "FILE"} | model | does not exist
B27 | {"model": "tiny", "training_file": "file-none"} | training_file | the file 'file-none' does not exist
B27 | {"model": "tiny", "training_file": "BATCH"} | training_file | purpose
B27 | {"model": "tiny", "training_file": "BROKEN"} | training_file | rows.jsonl, line 1: not a JSON object
B27 | {GOOD, "validation_file": "file-none"} | validation_file | does not exist
B29 | {GOOD, "method": {"type": "dpo"}} | method.type | "dpo" is not supported yet
B35 | {GOOD,} | - | trailing comma
B35 | // {GOOD} | - | not valid JSON
B35 | {GOOD, /* one */ "seed": 1} | - | not valid JSON
"#;

#[tokio::test]
async fn bodies_of_jobs() {
    let app = TestApp::start().await;
    let file = app.upload(ROWS).await;
    let broken = app.upload("not json\n").await;
    let other = [
        ("name=\"purpose\"", "batch"),
        ("name=\"file\"; filename=\"x\"", "x"),
    ];
    let batch = text(&app.post_form(&other).await.json().await["id"]);
    let good = format!(r#""model": "tiny", "training_file": "{file}""#);
    let deep = "[".repeat(129) + &"]".repeat(129);
    let fill = |body: &str| {
        let body = body.replace("GOOD", &good).replace("DEEP", &deep);
        let body = body.replace("FILE", &file).replace("BATCH", &batch);
        body.replace("BROKEN", &broken)
    };
    let before = held(&app).await;
    for [number, body, param, message] in rows(BODIES) {
        let (status, got, told) = app.post_json(JOBS, fill(body)).await.error().await;
        assert_eq!(
            (status, got.as_str()),
            (400, param),
            "{number}: {body}: {told}"
        );
        assert!(told.contains(message), "{number}: {body}: {told}");
    }
    let whole = fill("{GOOD}");
    for (number, bytes, message) in [
        ("B1", Vec::new(), "the body is empty"),
        ("B1", b" \r\n".to_vec(), "the body is empty"),
        (
            "B9",
            whole.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            "not valid JSON",
        ),
        (
            "B9",
            format!("\u{feff}{whole}").into_bytes(),
            "not valid JSON",
        ),
        ("B9", b"{\"suffix\": \"\xe9\"}".to_vec(), "not valid JSON"),
    ] {
        let (status, _, told) = app.post_json(JOBS, bytes).await.error().await;
        assert_eq!(
            (status, told.contains(message)),
            (400, true),
            "{number}: {told}"
        );
    }
    assert_eq!(held(&app).await, before);
}

/// B8.
#[tokio::test]
async fn sizes_of_bodies() {
    let app = TestApp::start().await;
    let body = |bytes: usize| format!("{{\"model\": \"{}\"}}", "x".repeat(bytes - 13));
    // What the body of an experiment says may stand in many jobs.
    for (path, most) in [(JOBS, 1 << 20), ("/v1/experiments", 64 << 10)] {
        let (status, _, told) = app.post_json(path, body(most)).await.error().await;
        assert_eq!((status, told.contains("missing")), (400, true), "{told}");
        let (status, _, told) = app.post_json(path, body(most + 1)).await.error().await;
        assert_eq!(status, 413);
        assert!(told.contains(&format!("{most} bytes")), "{told}");
    }
    let pieces = [0; 2].map(|_| Ok::<_, std::io::Error>(vec![b' '; 600_000]));
    let streamed = Body::from_stream(futures_util::stream::iter(pieces));
    assert_eq!(app.post_json(JOBS, streamed).await.error().await.0, 413);
}

/// B52, B64, B73: a body whose headers say that it is something else, nothing, or compressed, whether a route takes one or not.
#[tokio::test]
async fn types_of_bodies() {
    let app = TestApp::start().await;
    let send = async |method: Method, path: &str, headers: &[(header::HeaderName, &str)]| {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        app.send(request.body(Body::from("{}")).unwrap()).await
    };
    let typed = |media_type: &'static str| [(header::CONTENT_TYPE, media_type)];
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
        for media_type in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/jsonx",
            "*/*",
            "",
        ] {
            let answer = send(method.clone(), path, &typed(media_type)).await;
            let (status, _, told) = answer.error().await;
            assert_eq!(status, 415, "{method} {path} {media_type}: {told}");
        }
        assert_eq!(send(method.clone(), path, &[]).await.error().await.0, 415);
        for encoding in ["gzip", "br", "deflate, gzip"] {
            let headers = [
                (header::CONTENT_TYPE, "application/json"),
                (header::CONTENT_ENCODING, encoding),
            ];
            let (status, _, told) = send(method.clone(), path, &headers).await.error().await;
            assert_eq!(
                (status, told.contains("uncompressed")),
                (415, true),
                "{told}"
            );
        }
    }
    for (path, media_type, status, message) in [
        (
            JOBS,
            "multipart/form-data; boundary=x",
            415,
            "application/json",
        ),
        ("/v1/files", "application/json", 415, "multipart/form-data"),
        (JOBS, "application/json; charset=utf-8", 400, "missing"),
        (JOBS, "Application/JSON", 400, "missing"),
    ] {
        let answer = send(Method::POST, path, &typed(media_type)).await;
        let (got, _, told) = answer.error().await;
        assert_eq!(
            (got, told.contains(message)),
            (status, true),
            "{media_type}: {told}"
        );
    }
    let id = app.submit(json!({"metadata": {"script": "wait"}})).await;
    let cancel =
        Request::post(format!("{JOBS}/{id}/cancel")).header(header::CONTENT_TYPE, "text/plain");
    app.send(cancel.body(Body::empty()).unwrap())
        .await
        .json()
        .await;
}

/// B75: an answer is JSON, and not compressed by a way that there is not.
#[tokio::test]
async fn answers_that_cannot_be_had() {
    let app = TestApp::start().await;
    let request = get("/v1/files")
        .header(header::ACCEPT, "application/xml")
        .header(header::ACCEPT_ENCODING, "x");
    let answer = app.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.header("content-type"), "application/json");
    assert!(answer.headers.get(header::CONTENT_ENCODING).is_none());
    answer.json().await;
}

/// Number, path and query, param, a part of the message: 400. JOB stands for a job that has ended, FILE for a file.
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
async fn queries() {
    let app = TestApp::start().await;
    let id = app.submit(json!({})).await;
    let file = text(&app.wait(&id).await["training_file"]);
    let real = |path: &str| path.replace("JOB", &id).replace("FILE", &file);
    for [number, path, param, message] in rows(QUERIES) {
        let (status, got, told) = app.get(&real(path)).await.error().await;
        assert_eq!(
            (status, got.as_str()),
            (400, param),
            "{number}: {path}: {told}"
        );
        assert!(told.contains(message), "{number}: {path}: {told}");
    }
    for [number, path] in rows(EMPTY) {
        let answer = app.get(&real(path)).await.json().await;
        assert_eq!(answer["data"], json!({}), "{number}: {path}");
    }
    let ids = |count: usize| vec!["ftjob-none"; count].join(",");
    for (path, param, message) in [
        (
            format!("{JOBS}?after={}", "x".repeat(10_000)),
            "after",
            "names nothing",
        ),
        (
            format!("{JOBS}/{id}/metrics?names={}", ids(101)),
            "names",
            "1 to 100",
        ),
        (
            format!("/v1/events/stream?jobs={}", ids(101)),
            "jobs",
            "1 to 100",
        ),
        (
            format!("/v1/events/stream?jobs={}", ids(2000)),
            "jobs",
            "1 to 100",
        ),
    ] {
        let (status, got, told) = app.get(&path).await.error().await;
        assert_eq!((status, got.as_str()), (400, param), "{told}");
        assert!(told.contains(message), "{told}");
    }
}

/// A client learns that the server failed; the log keeps the cause.
#[tokio::test]
async fn a_failure_inside_the_server_keeps_its_cause() {
    let app = TestApp::start().await;
    let file = app.upload(ROWS).await;
    let metadata = json!({"script": "break down"});
    let body = json!({"model": "tiny", "training_file": file, "metadata": metadata}).to_string();
    let answer = app.post_json(JOBS, body).await;
    let text = answer.text().await;
    assert!(
        text.contains("\"type\":\"server_error\",\"param\":null,\"code\":null"),
        "{text}"
    );
    assert!(!text.contains("scripted"), "{text}");
    assert_eq!(app.get("/healthz").await.status.as_u16(), 200);
}

#[tokio::test]
async fn nothing_is_left_of_a_refused_job() {
    let app = TestApp::start().await;
    let file = ("name=\"file\"; filename=\"x.jsonl\"", "[1]\n");
    let id = app.post_form(&[PURPOSE, file]).await.json().await["id"].clone();
    let body = json!({"model": "tiny", "training_file": id}).to_string();
    assert_eq!(app.post_json(JOBS, body).await.error().await.0, 400);
    assert_eq!(app.get(JOBS).await.json().await["data"], json!([]));
    assert_eq!(app.uploads().len(), 1);
}
