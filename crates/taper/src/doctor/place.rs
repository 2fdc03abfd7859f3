//! The data directory, its disk and the address.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
    time::{Duration, Instant},
};

use taper_store::{Examined, StoreError, examine as examine_database, free_bytes};
use tokio::net::TcpListener;

use super::{Finding, machine::shown};
use crate::settings::Settings;

/// What a commit costs at least; above it submissions are slow.
const SLOW_SYNC: Duration = Duration::from_millis(30);
const SYNCS: usize = 20;

pub(super) async fn examine(settings: &Settings) -> Vec<Finding> {
    let dir = &settings.data_dir;
    let mut findings = vec![address(settings).await];
    if !dir.exists() {
        let says = format!("{} is not there yet; taper serve makes it", dir.display());
        findings.push(Finding::good("data directory", says));
        return findings;
    }
    findings.push(database(dir).await);
    match sync_time(dir) {
        Ok(time) => findings.push(disk(time)),
        Err(error) => {
            let says = format!("{} cannot be written to: {error}", dir.display());
            findings.push(Finding::bad("data directory", says));
        }
    }
    findings.push(space(settings, dir));
    findings
}

async fn address(settings: &Settings) -> Finding {
    match TcpListener::bind(settings.listen).await {
        Ok(_) => Finding::good("address", format!("{} is free", settings.listen)),
        Err(error) => Finding::bad("address", format!("{}: {error}", settings.listen)),
    }
}

async fn database(dir: &Path) -> Finding {
    match examine_database(dir).await {
        Ok(Examined { in_use: true, .. }) => {
            let says = format!("{} is in use by a running server", dir.display());
            Finding::bad("database", says)
        }
        Ok(it) => Finding::good(
            "database",
            format!(
                "whole, schema {}, {} jobs, SQLite {}",
                it.schema, it.jobs, it.sqlite
            ),
        ),
        Err(StoreError::NoDatabase(_)) => Finding::good("database", "none yet"),
        Err(error) => Finding::bad("database", error.to_string()),
    }
}

/// The middle of several times that making a small write durable takes.
fn sync_time(dir: &Path) -> io::Result<Duration> {
    let path = dir.join(format!("doctor-{}.tmp", std::process::id()));
    let measured = File::create_new(&path).and_then(|mut file| {
        let mut times = Vec::with_capacity(SYNCS);
        for _ in 0..SYNCS {
            let begun = Instant::now();
            file.write_all(&[0; 4096])?;
            file.sync_data()?;
            times.push(begun.elapsed());
        }
        times.sort();
        Ok(times[SYNCS / 2])
    });
    match fs::remove_file(&path) {
        Err(error) if measured.is_ok() => Err(error),
        _ => measured,
    }
}

fn disk(time: Duration) -> Finding {
    let says = format!("a durable write takes {:.1} ms", time.as_secs_f64() * 1e3);
    if time > SLOW_SYNC {
        return Finding::doubtful("disk", format!("{says}, which makes every request slow"));
    }
    Finding::good("disk", says)
}

fn space(settings: &Settings, dir: &Path) -> Finding {
    let wanted = settings.upkeep.limits().min_free_bytes;
    match free_bytes(dir) {
        Ok(free) if free < wanted => Finding::bad(
            "space",
            format!(
                "{} free, and {} are to stay free",
                shown(free),
                shown(wanted)
            ),
        ),
        Ok(free) => Finding::good("space", format!("{} free", shown(free))),
        Err(error) => Finding::doubtful("space", format!("cannot be told: {error}")),
    }
}
