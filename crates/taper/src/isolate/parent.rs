use std::{
    env, fs,
    io::{self, BufRead, BufReader, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Child, ChildStdin, Command as Process, ExitStatus, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use taper_core::{
    CheckpointRefused, Command, Control, JobSpec, Memory, Outcome, Plan, RunSink, RunSpec,
    SpecError, Stop, TrainError, Trainer,
};
use taper_engine::Engine;

use super::{Order, Report, SUBCOMMAND};
use crate::logging::LogFormat;

/// The time between two looks at the control.
const LOOK: Duration = Duration::from_millis(50);
/// How long a cancelled child may take.
const GRACE: Duration = Duration::from_secs(10);
/// How often it is looked whether a child whose line broke is dead.
const LOOKS_AT_THE_DYING: u32 = 20;
/// What a process that panics exits with.
const PANICKED: i32 = 101;
const KILLED: i32 = 9;

/// Trains as the engine does, each run in a process of its own.
pub(crate) struct Isolated {
    engine: Engine,
    log_format: LogFormat,
}

impl Isolated {
    pub(crate) fn new(log_format: LogFormat) -> Self {
        Self {
            engine: Engine::new(),
            log_format,
        }
    }

    fn spawn(&self) -> io::Result<Child> {
        let format = self.log_format.to_possible_value();
        let format = format.as_ref().map_or("text", |value| value.get_name());
        Process::new(env::current_exe()?)
            .args([SUBCOMMAND, "--log-format", format])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A Ctrl-C is for the server, which then asks for a checkpoint.
            .process_group(0)
            .spawn()
    }
}

impl Trainer for Isolated {
    fn inspect(&self, run: &RunSpec) -> Result<JobSpec, SpecError> {
        self.engine.inspect(run)
    }

    fn memory_bound(&self, run: &RunSpec) -> Result<Memory, SpecError> {
        self.engine.memory_bound(run)
    }

    fn check(&self, run: &RunSpec, control: &Control) -> Result<Plan, TrainError> {
        self.engine.check(run, control)
    }

    fn verify(
        &self,
        run: &RunSpec,
        checkpoint: &Path,
        control: &Control,
    ) -> Result<(), CheckpointRefused> {
        self.engine.verify(run, checkpoint, control)
    }

    fn train(
        &self,
        run: &RunSpec,
        sink: &mut dyn RunSink,
        control: &Control,
    ) -> Result<Outcome, TrainError> {
        let cannot = |error: io::Error| failed("internal", format!("the run's process: {error}"));
        let mut child = self.spawn().map_err(cannot)?;
        let line = Line::of(&mut child).map_err(cannot)?;
        let ended = thread::scope(|scope| {
            scope.spawn(|| line.relay(control));
            let ended = line
                .say(run)
                .and_then(|()| listen(&mut child, &line, sink, control));
            line.over.store(true, Relaxed);
            ended
        });
        let killed = ended.is_err() && !ends_itself(&mut child);
        let status = child.wait().map_err(cannot)?;
        match ended {
            Ok(Some(ended)) => ended,
            // One that did not follow in time was killed, which is no failure.
            _ if control.command() == Command::Cancel => Err(Stop::Cancelled.into()),
            Err(error) if killed => Err(failed(
                "crashed",
                format!("the line to the run's process broke: {error}"),
            )),
            Ok(None) | Err(_) => Err(died(status, line.peak.load(Relaxed))),
        }
    }
}

/// The server's end of the line to a child.
struct Line {
    pid: Pid,
    stdin: Mutex<ChildStdin>,
    over: AtomicBool,
    /// The most memory that the child was seen to have, in bytes.
    peak: AtomicU64,
}

impl Line {
    fn of(child: &mut Child) -> io::Result<Self> {
        let stdin = child.stdin.take();
        Ok(Self {
            pid: Pid::from_child(child),
            stdin: Mutex::new(stdin.ok_or_else(|| io::Error::other("it has no stdin"))?),
            over: AtomicBool::new(false),
            peak: AtomicU64::new(0),
        })
    }

    fn say(&self, order: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        let mut stdin = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
        stdin.write_all(&line)?;
        stdin.flush()
    }

    /// Passes commands on; a child that does not follow a cancel in time is killed.
    fn relay(&self, control: &Control) {
        let mut told = Command::Continue;
        let mut patience: Option<Instant> = None;
        while !self.over.load(Relaxed) {
            thread::sleep(LOOK);
            self.peak.fetch_max(peak_of(self.pid), Relaxed);
            let command = control.command();
            if command != told {
                told = command;
                let order = match command {
                    Command::Continue => continue,
                    Command::Pause => Order::Pause,
                    Command::Cancel => {
                        patience = Some(Instant::now());
                        Order::Cancel
                    }
                };
                // A child that is gone is noticed where its reports are read.
                let _ = self.say(&order);
            }
            if patience.is_some_and(|since| since.elapsed() > GRACE) {
                tracing::warn!("a cancelled run does not stop; its process is killed");
                let _ = kill_process(self.pid, Signal::KILL);
                return;
            }
        }
    }
}

/// Reads reports until the last one; `None` when the child is gone without it.
fn listen(
    child: &mut Child,
    line: &Line,
    sink: &mut dyn RunSink,
    control: &Control,
) -> io::Result<Option<Result<Outcome, TrainError>>> {
    let Some(stdout) = child.stdout.take() else {
        return Ok(None);
    };
    for report in BufReader::new(stdout).lines() {
        control.beat();
        match serde_json::from_str(&report?)? {
            Report::Event(event) => sink.event(event),
            Report::Checkpoint(files) => line.say(&Order::Checkpoint(sink.checkpoint(files)))?,
            Report::Beat => {}
            Report::Ended(ended) => return Ok(Some(ended)),
        }
    }
    Ok(None)
}

/// Waits a little for a child whose line broke, since a dead one breaks it too, then kills it: nobody reads what it says, and it would
/// wait for that for ever. False when it had to be killed.
fn ends_itself(child: &mut Child) -> bool {
    for _ in 0..LOOKS_AT_THE_DYING {
        if matches!(child.try_wait(), Ok(Some(_))) {
            return true;
        }
        thread::sleep(LOOK);
    }
    // It is waited for next, which tells what this could not.
    drop(child.kill());
    false
}

/// What the end of a child without a last word means.
fn died(status: ExitStatus, peak: u64) -> TrainError {
    let peak = peak >> 20;
    match (status.signal(), status.code()) {
        (Some(KILLED), _) => failed(
            "oom_killed",
            format!(
                "the run's process was killed from outside at {peak} MiB, as the system does when memory runs out; \
                 a smaller batch or max_length takes less"
            ),
        ),
        (Some(signal), _) => failed(
            "crashed",
            format!(
                "the run's process was ended by signal {signal} at {peak} MiB; the server's log may say more"
            ),
        ),
        (None, Some(PANICKED)) => failed(
            "panic",
            "the training broke down by a fault of the program; the server's log has the message"
                .to_owned(),
        ),
        (None, code) => failed(
            "crashed",
            format!(
                "the run's process ended with code {code:?} and no result; the server's log may say more"
            ),
        ),
    }
}

fn failed(code: &str, message: String) -> TrainError {
    TrainError::Failed {
        code: code.to_owned(),
        message,
        param: None,
        step: None,
    }
}

/// The peak of a process's memory, in bytes; 0 when it is gone.
fn peak_of(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) << 10
}
