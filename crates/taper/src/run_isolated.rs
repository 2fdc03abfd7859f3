use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use taper_engine::Engine;
use taper_scheduler::executors::process;

use crate::logging::{self, LogFormat};

/// The name of the subcommand.
pub(crate) const NAME: &str = "run-isolated";

/// Trains one run for a server that was started with --isolate; not for people.
#[derive(Args)]
pub(crate) struct RunIsolated {
    #[arg(long)]
    log_format: LogFormat,
}

impl RunIsolated {
    pub(crate) fn run(self) -> Result<ExitCode> {
        logging::start(self.log_format, "info");
        process::run_child(&Engine::new()).context("the run's process cannot go on")?;
        Ok(ExitCode::SUCCESS)
    }
}
