//! Faults, made on the real binary: `chaos` runs the reduced set, `chaos --full` everything; `chaos NAME…` single checks.

mod check;
mod clients;
mod history;
mod inject;
mod kills;
mod promises;
mod proxy;
mod specs;
mod syscalls;
mod world;

use std::{process::ExitCode, time::Instant};

use clap::Parser;

use check::{Check, Passed, Size, say};

const CHECKS: &[Check] = &[
    Check {
        faults: "F2 F21 F26 F27",
        name: "kills-at-random-times",
        run: |size| Box::pin(kills::at_random_times(size)),
    },
    Check {
        faults: "F1 F3 F34",
        name: "deaths-at-system-calls",
        run: |size| Box::pin(syscalls::deaths(size)),
    },
    Check {
        faults: "F9",
        name: "failing-fsyncs",
        run: |size| Box::pin(syscalls::failing_fsyncs(size)),
    },
    Check {
        faults: "F8",
        name: "full-database",
        run: |size| Box::pin(syscalls::full_database(size)),
    },
];

/// Makes faults on the real binary and holds it to the promises of RELIABILITY.md.
#[derive(Parser)]
struct Cli {
    /// Everything, for an hour or so, instead of the few minutes that fit into tests/run
    #[arg(long)]
    full: bool,
    /// Says what there is
    #[arg(long)]
    list: bool,
    /// Checks to run, by the start of their names; none = all
    names: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let wanted = |check: &&Check| {
        cli.names.is_empty() || cli.names.iter().any(|name| check.name.starts_with(name))
    };
    let checks: Vec<_> = CHECKS.iter().filter(wanted).collect();
    if cli.list {
        checks
            .iter()
            .for_each(|check| say(format_args!("{:32} {}", check.name, check.faults)));
        return ExitCode::SUCCESS;
    }
    let size = if cli.full { Size::Full } else { Size::Reduced };
    let mut failed = 0;
    for check in &checks {
        failed += u32::from(!holds(check, size).await);
    }
    say(format_args!("{} checks, {failed} failed", checks.len()));
    if failed == 0 && !checks.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs a check and tells how it went.
async fn holds(check: &Check, size: Size) -> bool {
    let began = Instant::now();
    let result = (check.run)(size).await;
    let took = began.elapsed().as_secs_f64();
    let (name, faults) = (check.name, check.faults);
    match &result {
        Ok(Passed::With(figures)) => {
            say(format_args!(
                "passed   {name} ({faults}, {took:.0} s): {figures}"
            ));
        }
        Ok(Passed::Skipped(reason)) => say(format_args!("skipped: {name} ({faults}): {reason}")),
        Err(error) => say(format_args!(
            "FAILED   {name} ({faults}, {took:.0} s): {error:#}"
        )),
    }
    result.is_ok()
}
