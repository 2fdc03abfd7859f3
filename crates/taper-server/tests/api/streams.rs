use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::app::{Answer, JOBS, TestApp, get, text};

/// An event as it comes: its number and its object.
type Received = (i64, Value);

/// Reads a stream piece by piece, as a client does.
struct Reader {
    stream: BodyDataStream,
    text: String,
}

impl Reader {
    fn new(answer: Answer) -> Self {
        assert_eq!(answer.header("content-type"), "text/event-stream");
        assert_eq!(answer.header("cache-control"), "no-store");
        Self {
            stream: answer.body.into_data_stream(),
            text: String::new(),
        }
    }

    /// The lines up to the next blank one, without comments and `retry`; `None` at the end.
    async fn block(&mut self) -> Option<Vec<String>> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let lines = block
                    .lines()
                    .filter(|l| !l.starts_with(':') && !l.starts_with("retry:"));
                let lines = lines.map(str::to_owned).collect();
                self.text = rest.to_owned();
                return Some(lines);
            }
            let piece = self.stream.next().await?.unwrap();
            self.text += std::str::from_utf8(&piece).unwrap();
        }
    }

    async fn event(&mut self) -> Received {
        let block = self.block().await.unwrap();
        assert_eq!(block.len(), 2, "{block:?}");
        let number = block[0].strip_prefix("id: ").unwrap().parse().unwrap();
        (
            number,
            serde_json::from_str(block[1].strip_prefix("data: ").unwrap()).unwrap(),
        )
    }

    /// The events up to `[DONE]`, after which the stream must end.
    async fn rest(&mut self) -> Vec<Received> {
        let mut events = Vec::new();
        loop {
            let block = self.block().await.unwrap();
            if block == ["data: [DONE]"] {
                assert_eq!(self.block().await, None);
                return events;
            }
            let data = block[1].strip_prefix("data: ").unwrap();
            let number = block[0].strip_prefix("id: ").unwrap().parse().unwrap();
            events.push((number, serde_json::from_str(data).unwrap()));
        }
    }
}

async fn open(app: &TestApp, path: &str, last: Option<&str>) -> Answer {
    let mut request = get(path);
    if let Some(last) = last {
        request = request.header("Last-Event-ID", last);
    }
    app.send(request.body(Body::empty()).unwrap()).await
}

fn numbers(events: &[Received]) -> Vec<i64> {
    events.iter().map(|(number, _)| *number).collect()
}

/// What `/events` tells, oldest first.
async fn log(app: &TestApp, job: &str) -> Vec<Value> {
    let page = app
        .get(&format!("{JOBS}/{job}/events?limit=10000"))
        .await
        .json()
        .await;
    let mut events = page["data"].as_array().unwrap().clone();
    events.reverse();
    events
}

#[tokio::test]
async fn a_stream_carries_each_event_once() {
    let app = TestApp::start().await;
    let job = app.submit(json!({"training": {"max_steps": 1000}})).await;
    let path = format!("{JOBS}/{job}/events/stream");
    let events = Reader::new(open(&app, &path, None).await).rest().await;
    let log = log(&app, &job).await;
    assert_eq!(numbers(&events), (1..=log.len() as i64).collect::<Vec<_>>());
    assert!(events.iter().map(|(_, event)| event).eq(&log));
    assert!(log.len() > 1000);
    assert_eq!(
        log.last().unwrap()["data"],
        json!({"status": "succeeded", "attempt": 1})
    );
}

#[tokio::test]
async fn a_stream_that_is_cut_goes_on_where_it_stopped() {
    let app = TestApp::start().await;
    let job = app.submit(json!({"training": {"max_steps": 300}})).await;
    let path = format!("{JOBS}/{job}/events/stream");
    let mut events = Vec::new();
    for taken in [1, 2, 3, 50, 100] {
        let last = events
            .last()
            .map(|(number, _): &Received| number.to_string());
        let mut reader = Reader::new(open(&app, &path, last.as_deref()).await);
        for _ in 0..taken {
            events.push(reader.event().await);
        }
    }
    let last = events.last().unwrap().0.to_string();
    events.extend(
        Reader::new(open(&app, &path, Some(&last)).await)
            .rest()
            .await,
    );
    let log = log(&app, &job).await;
    assert_eq!(numbers(&events), (1..=log.len() as i64).collect::<Vec<_>>());
    assert!(events.iter().map(|(_, event)| event).eq(&log));

    let last = log.len().to_string();
    let answer = open(&app, &path, Some(&last)).await;
    assert_eq!(
        (answer.status.as_u16(), answer.text().await.as_str()),
        (204, "")
    );
}

#[tokio::test]
async fn a_reader_that_is_too_slow_loses_nothing() {
    let app = TestApp::start().await;
    let job = app.submit(json!({"training": {"max_steps": 8000}})).await;
    let mut reader = Reader::new(open(&app, &format!("{JOBS}/{job}/events/stream"), None).await);
    assert_eq!(reader.event().await.0, 1);
    app.wait(&job).await;
    let events = reader.rest().await;
    assert_eq!(
        numbers(&events),
        (2..=events.len() as i64 + 1).collect::<Vec<_>>()
    );
    assert!(events.len() > 8000);
}

#[tokio::test]
async fn ids_that_name_no_event_start_the_stream_again() {
    let app = TestApp::start().await;
    let job = app.submit(json!({})).await;
    app.wait(&job).await;
    let path = format!("{JOBS}/{job}/events/stream");
    let all = Reader::new(open(&app, &path, None).await).rest().await;
    for junk in [
        "-1",
        "18446744073709551616",
        "abc",
        "1.5",
        " ",
        "+1",
        "999999",
        "0x1",
        "",
    ] {
        let mut reader = Reader::new(open(&app, &path, Some(junk)).await);
        assert_eq!(
            reader.block().await.unwrap(),
            ["event: reset", "data: {}"],
            "{junk}"
        );
        assert_eq!(reader.rest().await, all, "{junk}");
    }
    assert_eq!(
        Reader::new(open(&app, &path, Some("0")).await).rest().await,
        all
    );
    let long = "1".repeat(10_000);
    let (status, param, told) = open(&app, &path, Some(&long)).await.error().await;
    assert_eq!((status, param.as_str()), (400, "Last-Event-ID"));
    assert!(told.contains("more than 256 bytes"), "{told}");
    let missing = format!("{JOBS}/ftjob-none/events/stream");
    assert_eq!(app.get(&missing).await.error().await.0, 404);
}

#[tokio::test]
async fn one_stream_for_all_jobs() {
    let app = TestApp::start().await;
    let old = app.submit(json!({})).await;
    app.wait(&old).await;
    let mut all = Reader::new(open(&app, "/v1/events/stream", None).await);
    let (one, two) = (app.submit(json!({})).await, app.submit(json!({})).await);
    let filtered = format!("/v1/events/stream?jobs={two},ftjob-none");
    let mut of_two = Reader::new(open(&app, &filtered, Some("0")).await);
    app.wait(&one).await;
    app.wait(&two).await;
    let (log_one, log_two) = (log(&app, &one).await, log(&app, &two).await);

    let mut seen = Vec::new();
    for _ in 0..log_one.len() + log_two.len() {
        seen.push(all.event().await);
    }
    assert!(numbers(&seen).windows(2).all(|pair| pair[1] == pair[0] + 1));
    for (job, log) in [(&one, &log_one), (&two, &log_two)] {
        let of_job: Vec<_> = seen.iter().filter(|(_, e)| e["job"] == **job).collect();
        let seqs: Vec<_> = of_job
            .iter()
            .map(|(_, e)| e["seq"].as_u64().unwrap())
            .collect();
        assert_eq!(seqs, (1..=log.len() as u64).collect::<Vec<_>>());
    }
    for expected in &log_two {
        let (_, event) = of_two.event().await;
        assert_eq!(
            (&event["id"], text(&event["job"])),
            (&expected["id"], two.clone())
        );
    }

    let from = seen[3].0.to_string();
    let mut again = Reader::new(open(&app, "/v1/events/stream", Some(&from)).await);
    assert_eq!(again.event().await, seen[4]);
    let mut lost = Reader::new(open(&app, "/v1/events/stream", Some("99999")).await);
    assert_eq!(lost.block().await.unwrap(), ["event: reset", "data: {}"]);
    let next = app.submit(json!({})).await;
    assert_eq!(text(&lost.event().await.1["job"]), next);
}

/// OpenAI's Python client takes a comment with a blank line after it as an event without data, and fails.
#[tokio::test]
async fn a_silent_stream_shows_that_it_lives() {
    let often = Duration::from_millis(20);
    let app = TestApp::start_with(|config| config.keep_alive = often).await;
    let answer = open(&app, "/v1/events/stream", None).await;
    let mut stream = answer.body.into_data_stream();
    for expected in ["retry: 1000\n", ": keep-alive\n", ": keep-alive\n"] {
        assert_eq!(stream.next().await.unwrap().unwrap(), expected);
    }
}
