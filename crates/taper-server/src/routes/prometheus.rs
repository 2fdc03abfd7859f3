use std::{
    fmt::{Display, Write},
    fs,
};

use axum::{extract::State, http::HeaderName, http::header};
use taper_store::Telemetry;

use crate::{middleware::auth::Caller, state::AppState, wire::error::ApiError};

/// The text format of Prometheus.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The label `job` is Prometheus' own: it names what is scraped.
const JOB_ID: &str = "job_id";
/// Figures of running jobs and the names that they have here.
const OF_JOBS: [(&str, &str, &str); 5] = [
    ("step", "taper_job_step", "Optimizer steps done."),
    (
        "total_steps",
        "taper_job_total_steps",
        "Optimizer steps that the run takes.",
    ),
    (
        "step_seconds",
        "taper_job_step_seconds",
        "Seconds of a step, since the last log.",
    ),
    (
        "tokens_per_second",
        "taper_job_tokens_per_second",
        "Tokens trained a second, since the last log.",
    ),
    (
        "eta_seconds",
        "taper_job_eta_seconds",
        "Seconds until the run ends.",
    ),
];

/// Tell how the server is doing
///
/// Figures in Prometheus' text format. Those named `_total` count from the start of the server. Once there are keys, only those with
/// the role admin are shown them.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "service",
    responses((status = 200, description = "The figures", body = String, content_type = "text/plain")),
)]
pub(crate) async fn metrics(
    State(state): State<AppState>,
    caller: Caller,
) -> Result<([(HeaderName, &'static str); 1], String), ApiError> {
    let telemetry = state.store.telemetry(&caller.scope).await?;
    let mut text = Exposition::default();
    of_jobs(&mut text, &telemetry);
    text.gauge(
        "taper_runs_given_up",
        "Runs that were given up as stuck and have not ended; they hold their memory until then.",
        state.scheduler.abandoned_runs(),
    );
    of_store(&mut text, &telemetry);
    of_process(&mut text);
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text.0))
}

fn of_jobs(text: &mut Exposition, telemetry: &Telemetry) {
    let help = "Jobs that have not ended, by state.";
    text.family("taper_jobs", "gauge", help);
    for (state, count) in &telemetry.open {
        text.labelled("taper_jobs", "state", state.as_str(), count);
    }
    let help = "Jobs that have ended, by state.";
    text.family("taper_jobs_ended_total", "counter", help);
    for (state, count) in &telemetry.ended {
        text.labelled("taper_jobs_ended_total", "state", state.as_str(), count);
    }
    text.gauge(
        "taper_queue_oldest_seconds",
        "Age of the job that has been queued longest.",
        telemetry.oldest_queued_seconds,
    );
    for (figure, name, help) in OF_JOBS {
        text.family(name, "gauge", help);
        for (id, metrics) in &telemetry.running {
            if let Some(value) = metrics.get(figure) {
                text.labelled(name, JOB_ID, id, value);
            }
        }
    }
}

fn of_store(text: &mut Exposition, telemetry: &Telemetry) {
    let it = telemetry;
    text.counter("taper_commits_total", "Database commits.", it.commits);
    text.counter(
        "taper_commits_failed_total",
        "Database commits that failed; nothing was acknowledged.",
        it.failed_commits,
    );
    text.counter(
        "taper_commit_seconds_total",
        "Seconds spent committing.",
        it.commit_seconds,
    );
    text.gauge(
        "taper_database_bytes",
        "Database with its log.",
        it.database_bytes,
    );
    text.gauge("taper_wal_bytes", "Write-ahead log.", it.log_bytes);
    text.gauge(
        "taper_data_used_bytes",
        "Files, checkpoints, results and database.",
        it.used_bytes,
    );
    text.gauge(
        "taper_disk_free_bytes",
        "Left on the disk of the data directory.",
        it.free_bytes,
    );
    text.gauge(
        "taper_event_streams",
        "Readers of live events.",
        it.subscribers,
    );
}

fn of_process(text: &mut Exposition) {
    let name = "taper_build_info";
    text.family(name, "gauge", "The version that runs.");
    text.labelled(name, "version", env!("CARGO_PKG_VERSION"), 1);
    if let Some(bytes) = memory("VmRSS:") {
        let help = "Memory in use.";
        text.gauge("process_resident_memory_bytes", help, bytes);
    }
    if let Some(bytes) = memory("VmHWM:") {
        let help = "Most memory in use, since the last run began.";
        text.gauge("taper_process_peak_memory_bytes", help, bytes);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        text.gauge("process_open_fds", "Open file descriptors.", open.count());
    }
}

/// A line of `/proc/self/status`, in bytes.
fn memory(name: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes << 10)
}

/// A text under construction.
#[derive(Default)]
struct Exposition(String);

impl Exposition {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.line(format_args!("{name} {value}"));
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "counter", help);
        self.line(format_args!("{name} {value}"));
    }

    /// A value under one label, whose text is an id, a state or a version, so that nothing in it has to be escaped.
    fn labelled(&mut self, name: &str, label: &str, text: &str, value: impl Display) {
        self.line(format_args!("{name}{{{label}=\"{text}\"}} {value}"));
    }

    fn line(&mut self, line: impl Display) {
        writeln!(self.0, "{line}").expect("a string takes everything");
    }
}
