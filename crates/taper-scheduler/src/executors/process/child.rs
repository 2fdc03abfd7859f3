use std::{
    io::{self, BufRead, Write, stdin, stdout},
    process::exit,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

use rayon::ThreadPoolBuilder;
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::Serialize;
use taper_core::{
    CheckpointFiles, Control, PublishRefused, RequestedAction, RunEvent, RunSink, RunSpec, Trainer,
};

use super::messages::{FromChild, ToChild};
use crate::executors::STACK_BYTES;

/// The time between two signs of life.
const PULSE: Duration = Duration::from_secs(1);

/// Trains the run that the server sends: all that its child process does.
///
/// # Errors
/// When the server is gone, or what it sends is no run.
pub fn run_child(trainer: &dyn Trainer) -> io::Result<()> {
    // Without its server the run would be trained twice, by this process and by the next server.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let run = read_run()?;
    let control = Control::new();
    let (answers, answered) = channel();
    let requests = control.clone();
    thread::spawn(move || check_control(&requests, &answers));
    let pulse = control.clone();
    thread::spawn(move || keep_telling(&pulse));
    let pool = ThreadPoolBuilder::new()
        .num_threads(run.threads)
        .stack_size(STACK_BYTES)
        .build()
        .map_err(io::Error::other)?;
    let mut sink = Pipe { answered };
    let ended = pool.install(|| trainer.train(&run, &mut sink, &control));
    tell(&FromChild::Ended(ended))
}

fn read_run() -> io::Result<RunSpec> {
    let mut line = String::new();
    stdin().lock().read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

/// Follows what the server asks for until there is no server.
fn check_control(control: &Control, answers: &Sender<Result<(), PublishRefused>>) {
    for line in stdin().lock().lines() {
        let message = line.ok().and_then(|line| serde_json::from_str(&line).ok());
        match message {
            Some(ToChild::Request(Some(action))) => control.request(action),
            Some(ToChild::Request(None)) => control.withdraw(RequestedAction::Pause),
            Some(ToChild::Checkpoint(answer)) => drop(answers.send(answer)),
            None => break,
        }
    }
    tracing::error!("the server is gone; its run ends");
    exit(1);
}

/// Tells each second whether the run has moved.
fn keep_telling(control: &Control) {
    let mut last = control.heartbeats();
    loop {
        thread::sleep(PULSE);
        let heartbeats = control.heartbeats();
        if heartbeats != last && tell(&FromChild::Heartbeat).is_err() {
            return;
        }
        last = heartbeats;
    }
}

/// The run's way to the server.
struct Pipe {
    answered: Receiver<Result<(), PublishRefused>>,
}

impl RunSink for Pipe {
    fn event(&mut self, event: RunEvent) {
        // Without a reader the process ends anyway.
        let _ = tell(&FromChild::Event(event));
    }

    fn checkpoint(&mut self, checkpoint: CheckpointFiles) -> Result<(), PublishRefused> {
        let gone = |_| PublishRefused::StaleAttempt("the server is gone".to_owned());
        tell(&FromChild::Checkpoint(checkpoint))
            .map_err(|error| PublishRefused::StaleAttempt(error.to_string()))?;
        self.answered.recv().map_err(gone)?
    }
}

fn tell(message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    let mut out = stdout().lock();
    out.write_all(&line)?;
    out.flush()
}
