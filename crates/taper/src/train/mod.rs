//! `taper train`: one job without a server.

mod folder;
mod job;
mod plan;
mod report;

use std::{num::NonZeroUsize, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::Args;
use rayon::{ThreadPool, ThreadPoolBuilder};
use taper_core::{
    Control, Level, Outcome, RequestedAction, RunEvent, RunSink, RunSpec, TrainError, Trainer,
};
use taper_engine::Engine;

use self::{folder::Folder, report::Sink};
use crate::{
    console::{say, tell},
    logging::{self, LogFormat},
    progress::Progress,
    signals::Signals,
};

/// Deep graphs recurse when they are dropped and walked backwards. Only what is touched takes memory.
pub(crate) const STACK_BYTES: usize = 64 << 20;
/// What a shell makes of an end by Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;

/// Trains one job without a server. Ctrl-C leaves a checkpoint in DIR/run, from which the same command goes on.
#[derive(Args)]
pub(crate) struct Train {
    /// A JSON file with what the body of a job says: "tuning" and "training"
    #[arg(value_name = "SPEC.json")]
    spec: PathBuf,

    /// The base model, a folder in Hugging Face layout
    #[arg(long, value_name = "DIR")]
    model: PathBuf,

    /// The rows to train on
    #[arg(long, value_name = "FILE")]
    data: PathBuf,

    /// The rows to measure with
    #[arg(long, value_name = "FILE")]
    validation: Option<PathBuf>,

    /// Where the result goes: a new or empty folder, or that of an interrupted run
    #[arg(long, value_name = "DIR", required_unless_present = "dry_run")]
    out: Option<PathBuf>,

    /// Say what the run would do and take, and end
    #[arg(long)]
    dry_run: bool,

    /// With --dry-run: as JSON
    #[arg(long, requires = "dry_run")]
    json: bool,

    /// Threads for the arithmetic [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

impl Train {
    #[tokio::main]
    pub(crate) async fn run(self) -> Result<ExitCode> {
        logging::start(LogFormat::Text, "warn");
        let pool = self.pool()?;
        let mut run = self.job(pool.current_num_threads())?;
        let Some(out) = self.out.as_deref().filter(|_| !self.dry_run) else {
            let plan = pool.install(|| plan::make(run));
            plan::print(
                &plan.map_err(|error| report::failed(error, None))?,
                self.json,
            );
            return Ok(ExitCode::SUCCESS);
        };
        let folder = Folder::open(out)?;
        run.run_dir = folder.run_dir();
        run.resume_from = folder.newest_checkpoint()?;
        let trained = watched(pool, run).await?;
        let ended = match trained {
            Ok(outcome) => {
                folder.publish()?;
                report::figures(&outcome.metrics);
                say(format_args!("the result lies in {}", out.display()));
                return Ok(ExitCode::SUCCESS);
            }
            Err(TrainError::Stopped(_)) => {
                tell(report::interrupted(folder.newest_checkpoint()?.as_deref()));
                Ok(ExitCode::from(INTERRUPTED))
            }
            Err(error) => Err(report::failed(
                error,
                folder.newest_checkpoint()?.as_deref(),
            )),
        };
        folder.tidy();
        ended
    }

    fn pool(&self) -> Result<ThreadPool> {
        ThreadPoolBuilder::new()
            // 0 stands for all cores.
            .num_threads(self.threads.map_or(0, NonZeroUsize::get))
            .stack_size(STACK_BYTES)
            .build()
            .context("cannot start the threads")
    }
}

/// Trains in the pool; the first signal asks for a checkpoint, the second ends the process.
async fn watched(pool: ThreadPool, run: RunSpec) -> Result<Result<Outcome, TrainError>> {
    let mut signals = Signals::listen()?;
    let mut progress = Progress::start()?;
    let control = Control::new();
    let line = control.clone();
    let mut training = tokio::task::spawn_blocking(move || {
        let trained = pool.install(|| train(run, &mut progress, &line));
        progress.finish();
        trained
    });
    let ended = tokio::select! {
        ended = &mut training => Some(ended),
        () = signals.next() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            control.request(RequestedAction::Pause);
            tell("stopping with a checkpoint; a second Ctrl-C ends at once");
            signals.end_at_next();
            training.await
        }
    };
    ended.context("the training broke down by a fault of the program")
}

/// Looks at the job, counts its data, trains.
fn train(
    mut run: RunSpec,
    progress: &mut Progress,
    control: &Control,
) -> Result<Outcome, TrainError> {
    let engine = Engine::new();
    run.spec = engine.inspect(&run)?;
    let plan = engine.check(&run, control)?;
    let mut sink = Sink {
        run: &run,
        progress,
    };
    let warnings = plan.warnings.clone();
    sink.event(RunEvent::Planned(plan));
    for warning in warnings {
        sink.event(RunEvent::Message(Level::Warn, warning.message));
    }
    engine.train(&run, &mut sink, control)
}
