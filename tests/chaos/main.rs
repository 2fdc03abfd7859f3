//! Faults, made on the real binary: `chaos` runs the reduced set, `chaos --full` everything; `chaos NAME…` single checks.

mod check;
mod checkpoints;
mod clients;
mod database;
mod disk;
mod egress;
mod ends;
mod history;
mod inject;
mod kills;
mod load;
mod machine;
mod network;
mod powercut;
mod promises;
mod proxy;
mod space;
mod specs;
mod syscalls;
mod world;

use std::{process::ExitCode, time::Instant};

use clap::Parser;

use check::{Check, Part, Passed, Size, say};

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
        faults: "F4",
        name: "power-cuts",
        run: |size| Box::pin(powercut::cuts(size)),
    },
    Check {
        faults: "F5",
        name: "torn-writes",
        run: |size| Box::pin(powercut::torn_writes(size)),
    },
    Check {
        faults: "F6",
        name: "mutants-without-fsync",
        run: |size| Box::pin(powercut::mutants(size)),
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
    Check {
        faults: "F10",
        name: "locked-database",
        run: |size| Box::pin(database::locked(size)),
    },
    Check {
        faults: "F11",
        name: "database-opened-twice",
        run: |size| Box::pin(database::opened_twice(size)),
    },
    Check {
        faults: "F12",
        name: "damaged-database",
        run: |size| Box::pin(database::damaged(size)),
    },
    Check {
        faults: "F13",
        name: "incomplete-database",
        run: |size| Box::pin(database::incomplete(size)),
    },
    Check {
        faults: "F35",
        name: "database-of-a-newer-version",
        run: |size| Box::pin(database::newer(size)),
    },
    Check {
        faults: "F28",
        name: "harmed-checkpoint",
        run: |size| Box::pin(checkpoints::harmed(size)),
    },
    Check {
        faults: "F28",
        name: "every-checkpoint-harmed",
        run: |size| Box::pin(checkpoints::all_harmed(size)),
    },
    Check {
        faults: "F29",
        name: "checkpoint-of-another-job",
        run: |size| Box::pin(checkpoints::foreign(size)),
    },
    Check {
        faults: "F22",
        name: "streams-taken-up",
        run: |size| Box::pin(network::taken_up(size)),
    },
    Check {
        faults: "F23",
        name: "cuts-at-every-byte",
        run: |size| Box::pin(network::cuts_at_every_byte(size)),
    },
    Check {
        faults: "F24",
        name: "slow-lines",
        run: |size| Box::pin(network::slow_lines(size)),
    },
    Check {
        faults: "F7",
        name: "full-disk",
        run: |size| Box::pin(space::full_disk(size)),
    },
    Check {
        faults: "F15",
        name: "crash-loop",
        run: |size| Box::pin(ends::crash_loop(size)),
    },
    Check {
        faults: "F16",
        name: "does-not-fit",
        run: |size| Box::pin(ends::does_not_fit(size)),
    },
    Check {
        faults: "F18",
        name: "not-finite",
        run: |size| Box::pin(ends::not_finite(size)),
    },
    Check {
        faults: "F19",
        name: "hanging-run",
        run: |size| Box::pin(ends::hang(size)),
    },
    Check {
        faults: "F25",
        name: "clock-jumps",
        run: |size| Box::pin(machine::clock_jumps(size)),
    },
    Check {
        faults: "F30",
        name: "links",
        run: |size| Box::pin(machine::links(size)),
    },
    Check {
        faults: "F31",
        name: "no-files-left",
        run: |size| Box::pin(machine::no_files_left(size)),
    },
    Check {
        faults: "F32",
        name: "no-threads-left",
        run: |size| Box::pin(machine::no_threads_left(size)),
    },
    Check {
        faults: "F33",
        name: "read-only-disk",
        run: |size| Box::pin(machine::read_only_disk(size)),
    },
    Check {
        faults: "P9",
        name: "calls-nobody",
        run: |size| Box::pin(egress::calls_nobody(size)),
    },
    Check {
        faults: "F37 F38",
        name: "cancels-at-any-time",
        run: |size| Box::pin(ends::cancels_at_any_time(size)),
    },
    Check {
        faults: "F21",
        name: "load-reconnects",
        run: |size| Box::pin(load::storm::reconnects(size)),
    },
    Check {
        faults: "L1",
        name: "load-submissions",
        run: |size| Box::pin(load::submissions::at_once(size)),
    },
    Check {
        faults: "L2",
        name: "load-long-queue",
        run: |size| Box::pin(load::queue::long(size)),
    },
    Check {
        faults: "L3",
        name: "load-watchers",
        run: |size| Box::pin(load::watchers::many(size)),
    },
    Check {
        faults: "L4",
        name: "load-stalled-watchers",
        run: |size| Box::pin(load::watchers::stalled(size)),
    },
    Check {
        faults: "L5",
        name: "load-telling",
        run: |size| Box::pin(load::watchers::telling_costs(size)),
    },
    Check {
        faults: "L7",
        name: "load-large-uploads",
        run: |size| Box::pin(load::uploads::large(size)),
    },
    Check {
        faults: "L8",
        name: "load-busy-cores",
        run: |size| Box::pin(load::busy::training(size)),
    },
    Check {
        faults: "L9",
        name: "load-half-open",
        run: |size| Box::pin(load::half_open::many(size)),
    },
    Check {
        faults: "L10",
        name: "load-soak",
        run: |size| Box::pin(load::soak::soak(size)),
    },
];

/// Makes faults on the real binary and holds it to the promises of RELIABILITY.md.
#[derive(Parser)]
struct Cli {
    /// Everything, for an hour or so, instead of the few minutes that fit into tests/run
    #[arg(long)]
    full: bool,
    /// With --full, only a part of the seeds and points: 1/4 is the first of four
    #[arg(long, requires = "full", value_name = "N/OF")]
    part: Option<Part>,
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
    let size = match cli.full {
        true => Size::Full(cli.part.unwrap_or(Part::WHOLE)),
        false => Size::Reduced,
    };
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
