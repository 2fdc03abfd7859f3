//! `taper doctor`: whether a server would run well here, with the settings that it would have.

mod keys;
mod machine;
mod models;
mod place;

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::{
    console::say,
    settings::{Flags, Settings},
};

/// Looks whether a server would run well here, with the same flags. Exit code 1 when something would keep it from running.
#[derive(Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    flags: Flags,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    /// It runs, but not as well as it could.
    Doubtful,
    /// It does not run.
    Bad,
}

/// A line of the report.
struct Finding {
    verdict: Verdict,
    /// What was looked at.
    what: &'static str,
    says: String,
}

impl Finding {
    fn new(verdict: Verdict, what: &'static str, says: impl Into<String>) -> Self {
        Self {
            verdict,
            what,
            says: says.into(),
        }
    }

    fn good(what: &'static str, says: impl Into<String>) -> Self {
        Self::new(Verdict::Good, what, says)
    }

    fn doubtful(what: &'static str, says: impl Into<String>) -> Self {
        Self::new(Verdict::Doubtful, what, says)
    }

    fn bad(what: &'static str, says: impl Into<String>) -> Self {
        Self::new(Verdict::Bad, what, says)
    }

    fn show(&self) {
        let mark = match self.verdict {
            Verdict::Good => "ok   ",
            Verdict::Doubtful => "note ",
            Verdict::Bad => "FAIL ",
        };
        say(format_args!("{mark} {:<14} {}", self.what, self.says));
    }
}

impl Doctor {
    #[tokio::main]
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let settings = match Settings::read(self.flags) {
            Ok(settings) => settings,
            Err(error) => {
                Finding::bad("settings", format!("{error:#}")).show();
                return Ok(ExitCode::FAILURE);
            }
        };
        let mut findings = machine::examine(&settings);
        findings.extend(place::examine(&settings).await);
        findings.push(keys::examine(&settings).await);
        findings.extend(models::examine(&settings.models_dir));
        findings.iter().for_each(Finding::show);
        let bad = findings.iter().filter(|it| it.verdict == Verdict::Bad);
        Ok(match bad.count() {
            0 => ExitCode::SUCCESS,
            bad => {
                say(format_args!(
                    "{bad} of these would keep a server from running"
                ));
                ExitCode::FAILURE
            }
        })
    }
}
