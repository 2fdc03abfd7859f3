//! What the clients did and saw, in order, as lines of JSON.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

/// One line of the history.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Entry {
    /// Milliseconds since the history began.
    pub(crate) ms: u64,
    pub(crate) who: String,
    #[serde(flatten)]
    pub(crate) seen: Seen,
}

/// What was done or seen.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "seen", rename_all = "snake_case")]
pub(crate) enum Seen {
    /// A job is asked for; `key` marks the wish, however often it is sent.
    Submit {
        key: String,
    },
    /// The server has promised this job.
    Accepted {
        key: String,
        job: String,
    },
    /// A refusal that a later request may get past.
    Refused {
        key: String,
        status: u16,
    },
    /// The answer got lost.
    Lost {
        key: String,
        error: String,
    },
    Uploaded {
        file: String,
        sha256: String,
    },
    State {
        job: String,
        state: String,
        attempt: u64,
    },
    Event {
        job: String,
        seq: u64,
        event: Value,
    },
    /// A cancel was answered after this time with this state.
    Cancelled {
        job: String,
        state: String,
        took_ms: u64,
    },
    /// A user has taken a failed job back into the queue.
    Retried {
        job: String,
    },
    /// What was done to the server.
    Nemesis {
        act: String,
    },
}

/// Gathers entries and writes them to a file as well.
pub(crate) struct History {
    began: Instant,
    lines: Mutex<(Vec<Entry>, BufWriter<File>)>,
}

impl History {
    pub(crate) fn create(path: &Path) -> Result<Self> {
        Ok(Self {
            began: Instant::now(),
            lines: Mutex::new((Vec::new(), BufWriter::new(File::create(path)?))),
        })
    }

    pub(crate) fn note(&self, who: &str, seen: Seen) -> Result<()> {
        let entry = Entry {
            ms: self.began.elapsed().as_millis() as u64,
            who: who.to_owned(),
            seen,
        };
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        serde_json::to_writer(&mut lines.1, &entry)?;
        lines.1.write_all(b"\n")?;
        lines.1.flush()?;
        lines.0.push(entry);
        Ok(())
    }

    /// Everything so far.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.0.clone()
    }
}
