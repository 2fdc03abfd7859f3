//! F22 to F24: requests that are cut anywhere, answers that get lost, slow lines, and streams that are taken up again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use taper_tests::{client::answer, server::MODEL};
use tokio::time::sleep;

use crate::{
    check::{Passed, Progress, Size},
    clients::fulfil,
    promises::{self, Allowed},
    proxy::Weather,
    specs::{self, Kind, References, wishes},
    world::World,
};

const JOBS: &str = "/v1/fine_tuning/jobs";
/// More than a request of this check has, and than its answer has.
const LONGEST: u64 = 1600;

/// F23: the line is cut after each byte of the request and of the answer; a wish becomes no job or exactly one.
pub(crate) async fn cuts_at_every_byte(size: Size) -> Result<Passed> {
    let stride = match size {
        Size::Reduced => 97,
        Size::Full(_) => 5,
    };
    let world = World::running().await?;
    let file = world.site.upload("train.jsonl", specs::rows()).await?;
    let places: Vec<u64> = (1..LONGEST).step_by(stride).collect();
    let mut progress = Progress::new("cuts", 2 * places.len() as u64);
    let (mut none, mut one) = (0, 0);
    for place in &places {
        for (way, weather) in cuts(*place) {
            match made_by_cut(&world, &file, &format!("{way}-{place}"), weather).await? {
                true => one += 1,
                false => none += 1,
            }
            progress.step();
        }
    }
    ensure!(
        none > 0 && one > 0,
        "the cuts came only before or only after the job was made: {none} times there was none, {one} times one"
    );
    sleep(Duration::from_millis(100)).await;
    ensure!(
        world.proxy.open() <= 2,
        "{} connections are left",
        world.proxy.open()
    );
    world.direct()?.get("/v1/models").await?;
    Ok(Passed::new(format!(
        "{} cuts: {none} times no job, {one} times exactly one",
        none + one
    )))
}

/// A line that breaks at a byte, on either way.
fn cuts(place: u64) -> [(&'static str, Weather); 2] {
    let request = Weather {
        request_bytes: place,
        ..Weather::FAIR
    };
    let answer = Weather {
        answer_bytes: place,
        ..Weather::FAIR
    };
    [("request", request), ("answer", answer)]
}

/// Asks for a job over a line that breaks, and tells whether one was made.
async fn made_by_cut(world: &World, file: &str, key: &str, weather: Weather) -> Result<bool> {
    // A connection of its own for each, so that the weather is that of its first byte.
    world.proxy.cut();
    world.proxy.set(weather);
    let body = json!({"model": MODEL, "training_file": file, "metadata": {"key": key}, "training": {"max_steps": 1}});
    let sent = answer(world.site.client.request(Method::POST, JOBS).json(&body)).await;
    world.proxy.cut();
    world.proxy.set(Weather::FAIR);
    if let Ok((status, body)) = &sent {
        ensure!(status.is_success(), "{key}: {status}: {body}");
    }
    let path = format!("{JOBS}?metadata[key]={key}");
    let found = world.site.get(&path).await?;
    match (found["data"].as_array().map(Vec::len), sent) {
        (Some(1), _) => Ok(true),
        (Some(0), Err(_)) => Ok(false),
        (count, sent) => anyhow::bail!("{key}: {count:?} jobs after {sent:?}"),
    }
}

/// F24: latency, and bytes that come one by one.
pub(crate) async fn slow_lines(size: Size) -> Result<Passed> {
    let references = References::make().await?;
    let dribble = Weather {
        piece: 1,
        ..Weather::FAIR
    };
    let far = Weather {
        delay: Duration::from_millis(150),
        ..Weather::FAIR
    };
    let weathers: &[(&str, Weather)] = match size {
        Size::Reduced => &[("one byte at a time", dribble)],
        Size::Full(_) => &[("one byte at a time", dribble), ("150 ms a piece", far)],
    };
    for (name, weather) in weathers {
        let world = World::running().await?;
        world.proxy.set(*weather);
        let wishes = wishes(&[Kind::Short, Kind::Best]);
        fulfil(world.site.clone(), wishes.clone(), &[])
            .await
            .context(*name)?;
        world.proxy.cut();
        world.proxy.set(Weather::FAIR);
        promises::assert(&world, &wishes, &references, Allowed::NOTHING)
            .await
            .context(*name)?;
        ensure!(!world.log()?.contains("panicked"), "{name}: a panic");
    }
    let names: Vec<_> = weathers.iter().map(|(name, _)| *name).collect();
    Ok(Passed::new(format!(
        "{}: same bytes, whole streams",
        names.join(", ")
    )))
}

/// F22: a stream is taken up after every possible number, and after numbers that there are not.
pub(crate) async fn taken_up(_: Size) -> Result<Passed> {
    let world = World::running().await?;
    fulfil(world.site.clone(), wishes(&[Kind::Short]), &[]).await?;
    let client = &world.site.client;
    let jobs = client.get(JOBS).await?;
    let job = jobs["data"][0]["id"].as_str().context("no job")?;
    let all = client.events(job).await?;
    let path = format!("{JOBS}/{job}/events/stream");
    for seen in 0..all.len() {
        let mut stream = client
            .stream(&path, Some(seen as u64))
            .await?
            .context("no content")?;
        let mut rest = Vec::new();
        while let Some(event) = stream.next().await? {
            rest.push(event);
        }
        ensure!(
            rest == all[seen..],
            "after {seen}: {} events of {}",
            rest.len(),
            all.len() - seen
        );
    }
    ensure!(
        client
            .stream(&path, Some(all.len() as u64))
            .await?
            .is_none(),
        "a stream that has been seen whole is no 204"
    );
    for lost in ["99999", "18446744073709551616", "-1", "abc", "1.5", " "] {
        let text = text_after(&world, &path, lost).await?;
        ensure!(
            text.contains("event: reset"),
            "after {lost:?} there is no reset"
        );
        let events = text.matches("\nid: ").count() + usize::from(text.starts_with("id: "));
        ensure!(
            events == all.len(),
            "after {lost:?} there are {events} events of {}",
            all.len()
        );
    }
    let long = client
        .request(Method::GET, &path)
        .header("last-event-id", "9".repeat(10_000));
    let (status, body): (StatusCode, Value) = answer(long).await?;
    ensure!(
        status == StatusCode::BAD_REQUEST,
        "10 kB of number: {status} {body}"
    );
    Ok(Passed::new(format!(
        "{} places, and six that there are not",
        all.len() + 1
    )))
}

async fn text_after(world: &World, path: &str, last: &str) -> Result<String> {
    let request = world
        .site
        .client
        .request(Method::GET, path)
        .header("last-event-id", last);
    Ok(request.send().await?.error_for_status()?.text().await?)
}
