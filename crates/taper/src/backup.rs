use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Args;
use taper_store::{Copied, Extent, back_up, restore};

use crate::console::{say, tell};

/// Copies a data directory, also while a server uses it. The copy is a data directory itself.
#[derive(Args)]
pub(crate) struct Backup {
    /// The data directory
    #[arg(
        long,
        env = "TAPER_DATA_DIR",
        value_name = "DIR",
        default_value = "./data"
    )]
    data_dir: PathBuf,

    /// Where the copy goes: a new folder, which appears when it is whole
    #[arg(long, value_name = "DIR")]
    to: PathBuf,

    /// Copies jobs, events and curves alone, without uploads, checkpoints and results
    #[arg(long)]
    database_only: bool,
}

/// Makes a new data directory out of a backup. Jobs that were running go on from their last checkpoint in it.
#[derive(Args)]
pub(crate) struct Restore {
    /// The backup
    #[arg(long, value_name = "DIR")]
    from: PathBuf,

    /// The data directory to make: a new or empty folder
    #[arg(
        long,
        env = "TAPER_DATA_DIR",
        value_name = "DIR",
        default_value = "./data"
    )]
    data_dir: PathBuf,
}

impl Backup {
    #[tokio::main]
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let extent = if self.database_only {
            Extent::Database
        } else {
            Extent::Everything
        };
        let copied = back_up(&self.data_dir, &self.to, extent).await?;
        say(format_args!(
            "{} lies in {}",
            shown(&copied),
            self.to.display()
        ));
        Ok(code(&copied))
    }
}

impl Restore {
    #[tokio::main]
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let copied = restore(&self.from, &self.data_dir).await?;
        say(format_args!(
            "{} lies in {dir}; taper serve --data-dir {dir} goes on with it",
            shown(&copied),
            dir = self.data_dir.display()
        ));
        Ok(code(&copied))
    }
}

fn shown(copied: &Copied) -> String {
    format!(
        "a checked copy of {} jobs with {} files, checkpoints and results ({} MiB)",
        copied.jobs,
        copied.items,
        copied.bytes >> 20
    )
}

/// What was damaged before it was copied is told, and not listed in the copy.
fn code(copied: &Copied) -> ExitCode {
    if copied.damaged.is_empty() {
        return ExitCode::SUCCESS;
    }
    for item in &copied.damaged {
        tell(format_args!("damaged, and left out: {item}"));
    }
    ExitCode::FAILURE
}
