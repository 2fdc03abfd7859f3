use std::{
    io::{self, BufRead, Write, stdin, stdout},
    process::{ExitCode, exit},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Args;
use rayon::ThreadPoolBuilder;
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::Serialize;
use taper_core::{
    CheckpointFiles, Command, Control, PublishRefused, RunEvent, RunSink, RunSpec, Trainer,
};
use taper_engine::Engine;

use super::{Order, Report};
use crate::{
    logging::{self, LogFormat},
    train::STACK_BYTES,
};

/// The time between two signs of life.
const PULSE: Duration = Duration::from_secs(1);

/// Trains one run for a server; not for people.
#[derive(Args)]
pub(crate) struct RunIsolated {
    #[arg(long)]
    log_format: LogFormat,
}

impl RunIsolated {
    pub(crate) fn run(self) -> Result<ExitCode> {
        logging::start(self.log_format, "info");
        // Without its server the run would be trained twice, by this process and by the next server.
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let run = read_run()?;
        let control = Control::new();
        let (answers, answered) = channel();
        let line = control.clone();
        thread::spawn(move || obey(&line, &answers));
        let pulse = control.clone();
        thread::spawn(move || beat(&pulse));
        let pool = ThreadPoolBuilder::new()
            .num_threads(run.threads)
            .stack_size(STACK_BYTES)
            .build()
            .context("cannot start the threads")?;
        let mut sink = Pipe { answered };
        let ended = pool.install(|| Engine::new().train(&run, &mut sink, &control));
        tell(&Report::Ended(ended))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn read_run() -> Result<RunSpec> {
    let mut line = String::new();
    stdin().lock().read_line(&mut line)?;
    serde_json::from_str(&line).context("the first line is no run")
}

/// Follows orders until there is nobody to give any.
fn obey(control: &Control, answers: &Sender<Result<(), PublishRefused>>) {
    for line in stdin().lock().lines() {
        let order = line.ok().and_then(|line| serde_json::from_str(&line).ok());
        match order {
            Some(Order::Pause) => control.give(Command::Pause),
            Some(Order::Cancel) => control.give(Command::Cancel),
            Some(Order::Checkpoint(answer)) => drop(answers.send(answer)),
            None => break,
        }
    }
    tracing::error!("the server is gone; its run ends");
    exit(1);
}

/// Tells each second whether the run has moved.
fn beat(control: &Control) {
    let mut last = control.beats();
    loop {
        thread::sleep(PULSE);
        let beats = control.beats();
        if beats != last && tell(&Report::Beat).is_err() {
            return;
        }
        last = beats;
    }
}

/// The run's way to the server.
struct Pipe {
    answered: Receiver<Result<(), PublishRefused>>,
}

impl RunSink for Pipe {
    fn event(&mut self, event: RunEvent) {
        // Without a reader the process ends anyway.
        let _ = tell(&Report::Event(event));
    }

    fn checkpoint(&mut self, checkpoint: CheckpointFiles) -> Result<(), PublishRefused> {
        let gone = |_| PublishRefused::Stale("the server is gone".to_owned());
        tell(&Report::Checkpoint(checkpoint))
            .map_err(|error| PublishRefused::Stale(error.to_string()))?;
        self.answered.recv().map_err(gone)?
    }
}

fn tell(report: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    let mut out = stdout().lock();
    out.write_all(&line)?;
    out.flush()
}
