//! Holds the history of the clients, and what the server says in the end, against the promises P1 to P8 of RELIABILITY.md.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};
use taper_tests::client::Client;

use crate::{
    clients::{ENDS, JOBS},
    history::{Entry, Seen},
    specs::{Kind, References, Trained},
    world::World,
};

/// The longest that a cancel may take.
const CANCEL_MS: u64 = 2500;

/// Codes with which a job may fail, since the fault gave it no other way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowed(pub(crate) &'static [&'static str]);

impl Allowed {
    /// Kills may come three times in a row before a checkpoint.
    pub(crate) const CRASHES: Self = Self(&["crashed"]);
    pub(crate) const NOTHING: Self = Self(&[]);
}

/// What is held against the promises.
struct Promises<'a> {
    history: Vec<Entry>,
    /// Everything the server knows, jobs by id.
    jobs: BTreeMap<String, Finding>,
    references: &'a References,
    broken: Vec<String>,
}

/// What the server says of a job when all is over.
struct Finding {
    job: Value,
    events: Vec<(u64, Value)>,
    /// Listed artifacts whose bytes are others than those listed.
    torn: Vec<String>,
    trained: Option<(Kind, Trained)>,
}

/// Asserts the promises on a world whose jobs `wishes` (kind by key) have all been followed to their end.
///
/// # Errors
/// Every promise that is broken.
pub(crate) async fn assert(
    world: &World,
    wishes: &BTreeMap<String, Kind>,
    references: &References,
    allowed: Allowed,
) -> Result<()> {
    let client = world.direct()?;
    let mut promises = Promises {
        history: world.site.history.entries(),
        jobs: BTreeMap::new(),
        references,
        broken: Vec::new(),
    };
    for job in all_jobs(client).await? {
        let key = job["metadata"]["key"].as_str().unwrap_or_default();
        let kind = wishes.get(key).copied();
        let id = job["id"].as_str().context("no id")?.to_owned();
        let found = Finding::read(client, &id, kind).await?;
        promises.jobs.insert(id, found);
    }
    promises.nothing_acknowledged_is_lost();
    promises.files_are_kept(client).await;
    promises.one_job_per_wish(wishes.keys());
    promises.one_end(allowed);
    promises.attempts_grow();
    promises.same_bytes()?;
    promises.listed_means_whole(&world.folders.data());
    promises.streams_have_no_gap();
    promises.cancels_are_prompt();
    ensure!(promises.broken.is_empty(), promises.broken.join("\n"));
    Ok(())
}

/// Every job that is listed, page by page.
async fn all_jobs(client: &Client) -> Result<Vec<Value>> {
    let mut jobs = Vec::new();
    let mut after = String::new();
    loop {
        let page = client.get(&format!("{JOBS}?limit=1000{after}")).await?;
        jobs.extend(page["data"].as_array().context("no list")?.clone());
        if page["has_more"] != true {
            return Ok(jobs);
        }
        after = format!("&after={}", page["last_id"].as_str().context("no last id")?);
    }
}

impl Finding {
    async fn read(client: &Client, id: &str, kind: Option<Kind>) -> Result<Self> {
        let at = format!("/v1/fine_tuning/jobs/{id}");
        let job = client.job(id).await?;
        let succeeded = job["status"] == "succeeded";
        let mut torn = Vec::new();
        let artifacts = client.get(&format!("{at}/artifacts")).await?;
        for artifact in artifacts["data"].as_array().into_iter().flatten() {
            let path = artifact["path"].as_str().context("no path")?;
            let bytes = client.bytes(&format!("{at}/artifacts/{path}")).await?;
            if artifact["sha256"] != format!("{:x}", Sha256::digest(bytes)) {
                torn.push(path.to_owned());
            }
        }
        let trained = match kind {
            Some(kind) if succeeded => Some((kind, Trained::of(client, id, kind).await?)),
            _ => None,
        };
        let ended = job["status"].as_str().is_some_and(|s| ENDS.contains(&s));
        Ok(Self {
            events: match ended {
                true => client.events(id).await?,
                false => Vec::new(),
            },
            job,
            torn,
            trained,
        })
    }

    fn status(&self) -> &str {
        self.job["status"].as_str().unwrap_or_default()
    }

    /// The states that the events tell, each with its attempt.
    fn states(&self) -> impl Iterator<Item = (&str, u64)> {
        self.events.iter().filter_map(|(_, event)| {
            let data = &event["data"];
            Some((data["status"].as_str()?, data["attempt"].as_u64()?))
        })
    }
}

impl Promises<'_> {
    fn broken(&mut self, promise: &str, what: impl std::fmt::Display) {
        self.broken.push(format!("{promise}: {what}"));
    }

    /// P1: a job that was promised is there.
    fn nothing_acknowledged_is_lost(&mut self) {
        for entry in self.history.clone() {
            if let Seen::Accepted { key, job } = &entry.seen {
                let found = self.jobs.get(job).map(|it| &it.job["metadata"]["key"]);
                if found != Some(&Value::from(key.as_str())) {
                    self.broken(
                        "P1",
                        format!("job {job} was promised for {key} and is {found:?}"),
                    );
                }
            }
        }
    }

    /// P1: a file that was promised is there, byte for byte.
    async fn files_are_kept(&mut self, client: &Client) {
        for entry in self.history.clone() {
            if let Seen::Uploaded { file, sha256 } = &entry.seen {
                let bytes = client.bytes(&format!("/v1/files/{file}/content")).await;
                let found = bytes.map(|bytes| format!("{:x}", Sha256::digest(bytes)));
                if !matches!(&found, Ok(found) if found == sha256) {
                    self.broken(
                        "P1",
                        format!("file {file} was promised and gives {found:?}"),
                    );
                }
            }
        }
    }

    /// P2: a wish that was sent again and again has become exactly one job.
    fn one_job_per_wish<'k>(&mut self, keys: impl Iterator<Item = &'k String>) {
        let mut jobs = BTreeMap::<_, Vec<_>>::new();
        for (id, found) in &self.jobs {
            let key = found.job["metadata"]["key"].as_str().unwrap_or_default();
            jobs.entry(key.to_owned()).or_default().push(id.clone());
        }
        for key in keys {
            let made = jobs.get(key).cloned().unwrap_or_default();
            if made.len() != 1 {
                self.broken("P2", format!("the wish {key} has become the jobs {made:?}"));
            }
        }
    }

    /// P3: every job has one end, and nobody has ever seen another one; except for a failure before each retry.
    fn one_end(&mut self, allowed: Allowed) {
        let mut seen = BTreeMap::<String, BTreeSet<String>>::new();
        let mut retries = BTreeMap::<String, usize>::new();
        for entry in &self.history {
            if let Seen::Retried { job } = &entry.seen {
                *retries.entry(job.clone()).or_default() += 1;
            }
            if let Seen::State { job, state, .. } = &entry.seen
                && ENDS.contains(&state.as_str())
            {
                seen.entry(job.clone()).or_default().insert(state.clone());
            }
        }
        let mut broken = Vec::new();
        for (id, found) in &self.jobs {
            let ends: Vec<_> = found.states().filter(|(s, _)| ENDS.contains(s)).collect();
            let retries = retries.get(id).copied().unwrap_or_default();
            let (retried, end) = ends.split_at(retries.min(ends.len()));
            let all_failed = retried.iter().all(|(state, _)| *state == "failed");
            let last = found.states().last().map(|(state, _)| state);
            if end.len() != 1 || !all_failed || last != Some(found.status()) {
                broken.push(format!(
                    "job {id} is {} after the ends {ends:?}",
                    found.status()
                ));
            }
            if let Some(seen) = seen.get(id)
                && seen
                    .iter()
                    .any(|state| state != found.status() && (retries == 0 || state != "failed"))
            {
                broken.push(format!(
                    "job {id} is {} and was seen {seen:?}",
                    found.status()
                ));
            }
            let code = found.job["error"]["code"].as_str().unwrap_or_default();
            if found.status() == "failed" && !allowed.0.contains(&code) {
                broken.push(format!("job {id} has failed: {}", found.job["error"]));
            }
        }
        broken.into_iter().for_each(|what| self.broken("P3", what));
    }

    /// P4: attempts count up from 1, and the last one made the result.
    fn attempts_grow(&mut self) {
        let mut broken = Vec::new();
        for (id, found) in &self.jobs {
            let started = found.states().filter(|(state, _)| *state == "running");
            let started: Vec<u64> = started.map(|(_, attempt)| attempt).collect();
            let wanted: Vec<u64> = (1..=started.len() as u64).collect();
            let last = found.states().last().map_or(0, |(_, attempt)| attempt);
            if started != wanted || last != wanted.len() as u64 {
                broken.push(format!(
                    "job {id} ran as {started:?} and ended as attempt {last}"
                ));
            }
        }
        broken.into_iter().for_each(|what| self.broken("P4", what));
    }

    /// P5: whatever happened, the weights and the curves are those of the undisturbed run.
    fn same_bytes(&mut self) -> Result<()> {
        let mut broken = Vec::new();
        for (id, found) in &self.jobs {
            let Some((kind, trained)) = &found.trained else {
                continue;
            };
            let reference = self.references.of(*kind)?;
            if trained.sha256 != reference.sha256 {
                broken.push(format!(
                    "job {id} ({kind:?}) has other weights than in peace"
                ));
            }
            for (name, curve) in &reference.curves {
                if trained.curves.get(name) != Some(curve) {
                    broken.push(format!(
                        "job {id} ({kind:?}) has another curve of {name} than in peace"
                    ));
                }
            }
        }
        broken.into_iter().for_each(|what| self.broken("P5", what));
        Ok(())
    }

    /// P6: artifacts have the bytes that are listed, and no run has left anything half done or empty.
    fn listed_means_whole(&mut self, data: &Path) {
        let mut broken = Vec::new();
        for (id, found) in &self.jobs {
            for path in &found.torn {
                broken.push(format!(
                    "artifact {path} of job {id} has other bytes than listed"
                ));
            }
            if found.status() == "succeeded" && found.trained.is_none() {
                broken.push(format!("job {id} has succeeded without weights"));
            }
        }
        if let Err(error) = no_leftovers(data, &mut broken) {
            broken.push(format!("{error:#}"));
        }
        broken.into_iter().for_each(|what| self.broken("P6", what));
    }

    /// P7: each watcher has got each event once, in order, and none that the log does not have.
    fn streams_have_no_gap(&mut self) {
        let mut got = BTreeMap::<(String, String), Vec<(u64, Value)>>::new();
        for entry in &self.history {
            if let Seen::Event { job, seq, event } = &entry.seen {
                let stream = got.entry((entry.who.clone(), job.clone())).or_default();
                stream.push((*seq, event.clone()));
            }
        }
        let mut broken = Vec::new();
        for ((who, job), events) in got {
            let Some(found) = self.jobs.get(&job) else {
                continue; // P1 speaks of it
            };
            if events != found.events {
                let numbers = |list: &[(u64, Value)]| list.iter().map(|e| e.0).collect::<Vec<_>>();
                let (got, all) = (numbers(&events), numbers(&found.events));
                let how = if got == all {
                    "with other contents"
                } else {
                    "with other numbers"
                };
                broken.push(format!(
                    "{who} has got {} of {} events of job {job} {how}: {got:?}",
                    got.len(),
                    all.len()
                ));
            }
        }
        broken.into_iter().for_each(|what| self.broken("P7", what));
    }

    /// P8: a cancel is answered in time, with the end: its own, or the one that came first.
    fn cancels_are_prompt(&mut self) {
        for entry in self.history.clone() {
            if let Seen::Cancelled {
                job,
                state,
                took_ms,
            } = &entry.seen
                && (!ENDS.contains(&state.as_str()) || *took_ms > CANCEL_MS)
            {
                self.broken(
                    "P8",
                    format!("a cancel of job {job} took {took_ms} ms and gave {state}"),
                );
            }
        }
    }
}

/// Nothing under a temporary name is left once all runs have ended, and no file is empty.
fn no_leftovers(dir: &Path, broken: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        let name = name.to_string_lossy();
        if name.ends_with(".tmp") || name.ends_with(".part") {
            broken.push(format!("{} was left", path.display()));
        } else if path.is_dir() {
            no_leftovers(&path, broken)?;
        } else if fs::metadata(&path)?.len() == 0 && !["LOCK", "taper.db-wal"].contains(&&*name) {
            broken.push(format!("{} is empty", path.display()));
        }
    }
    Ok(())
}
