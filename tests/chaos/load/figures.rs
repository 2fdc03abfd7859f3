//! Times, and what a process uses.

use std::{fmt, fs, path::Path, time::Duration};

use anyhow::{Context, Result};

/// Many times of the same thing.
#[derive(Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The time below which this share of them lies, in milliseconds.
    pub(crate) fn share(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort();
        let place = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
        sorted
            .get(place)
            .map_or(0.0, |time| time.as_secs_f64() * 1e3)
    }

    pub(crate) fn p99(&self) -> f64 {
        self.share(0.99)
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (p50, p99, max) = (self.share(0.5), self.p99(), self.share(1.0));
        write!(
            f,
            "p50 {p50:.1} ms, p99 {p99:.1} ms, longest {max:.1} ms of {}",
            self.0.len()
        )
    }
}

/// What a process uses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) rss_kib: u64,
    pub(crate) files: usize,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let rss = rss.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok());
        Ok(Self {
            rss_kib: rss.context("no VmRSS")?,
            files: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
        })
    }

    pub(crate) fn rss_mib(self) -> f64 {
        self.rss_kib as f64 / 1024.0
    }
}

/// Bytes of the database's log.
pub(crate) fn wal_bytes(data: &Path) -> u64 {
    fs::metadata(data.join("taper.db-wal")).map_or(0, |it| it.len())
}
