//! What an administrator sees, and what a server answers that has no space.

use serde_json::json;
use taper_server::Token;
use taper_store::{Limits, ObjectKey, Scope};

use crate::app::{JOBS, PURPOSE, ROWS, TestApp, get};

fn value(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in\n{text}"));
    line.trim().parse().unwrap()
}

#[tokio::test]
async fn the_figures_follow_the_jobs() {
    let app = TestApp::start().await;
    let job = app.submit(json!({})).await;
    app.wait(&job).await;
    let waiting = app.submit(json!({"metadata": {"script": "wait"}})).await;
    app.reach(&waiting, "running").await;
    let path = format!("{JOBS}/{waiting}");
    let mut events = app.store.subscribe(&Scope::All);
    while app.get(&path).await.json().await["metrics"]["step"] != 1 {
        events.recv().await.unwrap();
    }
    let answer = app.get("/metrics").await;
    assert!(answer.header("content-type").starts_with("text/plain"));
    let text = answer.text().await;
    assert_eq!(value(&text, "taper_jobs{state=\"running\"} "), 1.0);
    assert_eq!(value(&text, "taper_jobs{state=\"queued\"} "), 0.0);
    assert_eq!(
        value(&text, "taper_jobs_ended_total{state=\"succeeded\"} "),
        1.0
    );
    let step = format!("taper_job_step{{job_id=\"{waiting}\"}} ");
    assert_eq!(value(&text, &step), 1.0);
    assert_eq!(value(&text, "taper_runs_given_up "), 0.0);
    assert!(value(&text, "taper_commits_total ") >= 4.0);
    assert!(value(&text, "taper_commit_seconds_total ") > 0.0);
    assert!(value(&text, "taper_wal_bytes ") > 0.0);
    assert!(value(&text, "process_resident_memory_bytes ") > 1e6);
    // Every line is a comment or a name, labels and a number.
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, number) = line.rsplit_once(' ').unwrap();
        assert!(
            number.parse::<f64>().is_ok() && !name.contains(' '),
            "{line}"
        );
    }
}

#[tokio::test]
async fn the_figures_need_the_key_where_there_is_one() {
    let app = TestApp::start_with(|config| config.token = Some(Token::new("secret"))).await;
    let (status, _, _) = app.get("/metrics").await.error().await;
    assert_eq!(status, 401);
    let request = get("/metrics").header("authorization", "Bearer secret");
    let answer = app.send(request.body(axum::body::Body::empty()).unwrap());
    assert_eq!(answer.await.status, 200);
}

#[tokio::test]
async fn without_space_new_things_are_refused_for_good() {
    let limits = Limits {
        min_free_bytes: u64::MAX / 2,
        max_bytes: None,
    };
    let app = TestApp::start_within(limits).await;
    let file = ("name=\"file\"; filename=\"rows.jsonl\"", ROWS);
    let answer = app.post_form(&[PURPOSE, file]).await;
    assert_eq!(answer.header("x-should-retry"), "false");
    let (status, _, message) = answer.error().await;
    assert_eq!(status, 507);
    assert!(message.contains("no space"), "{message}");
    assert_eq!(app.uploads(), Vec::<String>::new());
    let upload = json!({"bytes": 9, "filename": "rows.jsonl", "purpose": "fine-tune", "mime_type": "text/jsonl"});
    let answer = app.post_json("/v1/uploads", upload.to_string()).await;
    assert_eq!(answer.error().await.0, 507);
    let answer = app.get(JOBS).await.json().await;
    assert_eq!(answer["data"], json!([]));
}

#[tokio::test]
async fn a_job_tells_what_it_has_on_the_disk() {
    let app = TestApp::start().await;
    let job = app.submit(json!({})).await;
    let job = app.wait(&job).await;
    // The scripted adapter's weights and a little more.
    let bytes = job["bytes"].as_u64().unwrap();
    assert!((300_000..301_000).contains(&bytes), "{bytes}");
}

#[tokio::test]
async fn a_replaced_file_is_not_handed_out() {
    let app = TestApp::start().await;
    let file = app.upload(ROWS).await;
    let path = app.store.local(&ObjectKey::file(&file)).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    let answer = app.get(&format!("/v1/files/{file}/content")).await;
    let (status, _, message) = answer.error().await;
    assert_eq!(status, 500);
    assert!(!message.contains("passwd"), "{message}");
    let body = json!({"model": "tiny", "training_file": file}).to_string();
    let (status, param, _) = app.post_json(JOBS, body).await.error().await;
    assert_eq!((status, param.as_str()), (400, "training_file"));
}
