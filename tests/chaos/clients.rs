//! Clients that want something done however often the server goes away, and write down what they see.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::try_join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use taper_tests::{client::answer, server::MODEL};
use tokio::time::sleep;

use crate::{
    history::Seen,
    specs::{self, Kind},
    world::Site,
};

const PAUSE: Duration = Duration::from_millis(20);
/// The longest that a client stays at its wish.
const PATIENCE: Duration = Duration::from_secs(120);
pub(crate) const JOBS: &str = "/v1/fine_tuning/jobs";

pub(crate) const ENDS: [&str; 3] = ["succeeded", "failed", "cancelled"];

/// Repeats what fails until it works, as clients do when a server is away.
async fn insist<T, F>(what: &str, mut attempt: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let began = Instant::now();
    loop {
        match attempt().await {
            Err(error) if began.elapsed() > PATIENCE || is_gone(&error) => {
                return Err(error.context(format!("gave up: {what}")));
            }
            Err(_) => sleep(PAUSE).await,
            done => return done,
        }
    }
}

/// Tells whether the server knows nothing of what was asked for: waiting does not bring it back.
fn is_gone(error: &anyhow::Error) -> bool {
    let status = error
        .downcast_ref::<reqwest::Error>()
        .and_then(reqwest::Error::status);
    status == Some(StatusCode::NOT_FOUND) || error.to_string().starts_with("404")
}

impl Site {
    /// The body of a GET, as soon as there is one.
    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        insist(path, || self.client.get(path)).await
    }

    pub(crate) async fn upload(&self, name: &str, content: String) -> Result<String> {
        let file = insist("upload", || self.client.upload(name, content.clone())).await?;
        let sha256 = format!("{:x}", Sha256::digest(&content));
        let seen = Seen::Uploaded {
            file: file.clone(),
            sha256,
        };
        self.history.note("uploader", seen)?;
        Ok(file)
    }

    /// Gets a job that fulfils a wish: asks, and when the answer is lost looks whether there is one before it asks again.
    pub(crate) async fn submit(&self, key: &str, file: &str, mut body: Value) -> Result<String> {
        body["model"] = MODEL.into();
        body["training_file"] = file.into();
        body["metadata"] = json!({ "key": key });
        let (who, key) = (format!("submitter {key}"), key.to_owned());
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            self.history.note(&who, Seen::Submit { key: key.clone() })?;
            let request = self
                .client
                .request(Method::POST, JOBS)
                .header("idempotency-key", &key);
            match answer(request.json(&body)).await {
                Ok((StatusCode::OK, job)) => {
                    let job = job["id"].as_str().context("no id")?.to_owned();
                    let accepted = Seen::Accepted {
                        key,
                        job: job.clone(),
                    };
                    self.history.note(&who, accepted)?;
                    return Ok(job);
                }
                Ok((status, body)) => {
                    ensure!(status.is_server_error(), "the job was refused: {body}");
                    let status = status.as_u16();
                    self.history.note(
                        &who,
                        Seen::Refused {
                            key: key.clone(),
                            status,
                        },
                    )?;
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    self.history.note(
                        &who,
                        Seen::Lost {
                            key: key.clone(),
                            error,
                        },
                    )?;
                    if let Some(job) = self.find(&key).await? {
                        return Ok(job);
                    }
                }
            }
            sleep(PAUSE).await;
        }
        bail!("gave up: submit {key}")
    }

    async fn find(&self, key: &str) -> Result<Option<String>> {
        let found = self.get(&format!("{JOBS}?metadata[key]={key}")).await?;
        let id = found["data"][0]["id"].as_str().map(str::to_owned);
        Ok(id)
    }

    /// Follows a job's events to the end, over any number of connections.
    pub(crate) async fn watch(&self, who: &str, job: &str) -> Result<()> {
        let path = format!("{JOBS}/{job}/events/stream");
        let mut last = None;
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            match self.client.stream(&path, last).await {
                Ok(None) => return Ok(()),
                Ok(Some(mut stream)) => {
                    while let Ok(message) = stream.next().await {
                        let Some((seq, event)) = message else {
                            return Ok(());
                        };
                        last = Some(seq);
                        let job = job.to_owned();
                        self.history.note(who, Seen::Event { job, seq, event })?;
                    }
                }
                Err(error) if is_gone(&error) => return Err(error),
                Err(_) => {}
            }
            sleep(PAUSE).await;
        }
        bail!("gave up: watch {job}")
    }

    /// Looks at a job again and again until it has ended.
    pub(crate) async fn poll(&self, job: &str) -> Result<Value> {
        let mut last = String::new();
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let found = self.get(&format!("{JOBS}/{job}")).await?;
            let state = found["status"].as_str().context("no status")?.to_owned();
            if state != last {
                let seen = Seen::State {
                    job: job.to_owned(),
                    state: state.clone(),
                    attempt: found["attempt"].as_u64().context("no attempt")?,
                };
                self.history.note("poller", seen)?;
            }
            if ENDS.contains(&state.as_str()) {
                return Ok(found);
            }
            last = state;
            sleep(PAUSE).await;
        }
        bail!("job {job} is still {last}")
    }

    /// Cancels a job; one that has ended otherwise meanwhile is left alone.
    pub(crate) async fn cancel(&self, job: &str) -> Result<()> {
        let Some((body, took)) = self.act(job, "cancel").await? else {
            return Ok(());
        };
        let seen = Seen::Cancelled {
            job: job.to_owned(),
            state: body["status"].as_str().unwrap_or_default().to_owned(),
            took_ms: took.as_millis() as u64,
        };
        self.history.note("canceller", seen)
    }

    /// Takes a failed job back into the queue.
    pub(crate) async fn retry(&self, job: &str) -> Result<()> {
        let retried = Seen::Retried {
            job: job.to_owned(),
        };
        self.history.note("retrier", retried)?;
        let answer = self.act(job, "retry").await?;
        answer.map(drop).context("the job has not failed")
    }

    /// Pauses a job and resumes it; one that has ended meanwhile is left alone.
    pub(crate) async fn rest(&self, job: &str) -> Result<()> {
        if self.act(job, "pause").await?.is_none() {
            return Ok(());
        }
        loop {
            sleep(PAUSE).await;
            let found = self.get(&format!("{JOBS}/{job}")).await?;
            let state = found["status"].as_str().context("no status")?;
            // Until it is paused it may run on for a moment; and the wish to pause it dies with a killed server.
            let resumed = state == "paused" && self.act(job, "resume").await?.is_some();
            if resumed || ENDS.contains(&state) {
                return Ok(());
            }
        }
    }

    /// Sends an act until it is answered. Returns the answer and how long it took; `None` = not in this state.
    async fn act(&self, job: &str, act: &str) -> Result<Option<(Value, Duration)>> {
        let path = format!("{JOBS}/{job}/{act}");
        insist(&path, || async {
            let began = Instant::now();
            let (status, body) = answer(self.client.request(Method::POST, &path)).await?;
            if status == StatusCode::BAD_REQUEST {
                return Ok(None);
            }
            ensure!(status.is_success(), "{status}: {body}");
            Ok(Some((body, began.elapsed())))
        })
        .await
    }
}

/// What somebody does to a job beside waiting for it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whim {
    Cancel,
    /// Pause it and resume it a moment later.
    Rest,
}

/// Clients that get all wishes fulfilled and watch them; returns how the jobs have ended. `whims` come over jobs by their
/// key, each after some milliseconds.
pub(crate) async fn fulfil(
    site: Site,
    wishes: BTreeMap<String, Kind>,
    whims: &[(&str, u64, Whim)],
) -> Result<Vec<String>> {
    let file = site.upload("train.jsonl", specs::rows()).await?;
    let one = async |(key, kind): (&String, &Kind)| {
        let job = site.submit(key, &file, kind.body()).await?;
        let whims = whims.iter().filter(|(whose, _, _)| whose == key);
        let whims = try_join_all(whims.map(async |(_, after, whim)| {
            sleep(Duration::from_millis(*after)).await;
            match whim {
                Whim::Cancel => site.cancel(&job).await,
                Whim::Rest => site.rest(&job).await,
            }
        }));
        let watcher = format!("watcher {key}");
        let (end, (), _) = tokio::try_join!(site.poll(&job), site.watch(&watcher, &job), whims)?;
        let end = end["status"].as_str().context("no status")?;
        anyhow::Ok(end.to_owned())
    };
    try_join_all(wishes.iter().map(one)).await
}
