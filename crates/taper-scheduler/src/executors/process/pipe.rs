//! The server's end of the pipes to a child.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    process::{Child, ChildStdin},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use taper_core::{Outcome, RequestedAction, RunSink, RunSpec, TrainError};

use super::{
    Request,
    messages::{FromChild, ToChild},
};
use crate::executors::Reports;

/// The time between two looks at a child.
const LOOK: Duration = Duration::from_millis(50);
/// How long a cancelled child may take.
const GRACE: Duration = Duration::from_secs(10);
/// How often it is looked whether a child whose pipe broke is dead.
const LOOKS_AT_THE_DYING: u32 = 20;

pub(super) struct Pipe {
    pid: Pid,
    stdin: Mutex<ChildStdin>,
    is_over: AtomicBool,
    is_cancelled: AtomicBool,
    /// The most memory that the child was seen to have, in bytes.
    peak: AtomicU64,
}

impl Pipe {
    pub(super) fn of(child: &mut Child) -> io::Result<Self> {
        let stdin = child.stdin.take();
        Ok(Self {
            pid: Pid::from_child(child),
            stdin: Mutex::new(stdin.ok_or_else(|| io::Error::other("it has no stdin"))?),
            is_over: AtomicBool::new(false),
            is_cancelled: AtomicBool::new(false),
            peak: AtomicU64::new(0),
        })
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Relaxed)
    }

    pub(super) fn peak(&self) -> u64 {
        self.peak.load(Relaxed)
    }

    /// Sends the run, and passes on in both directions until the child's last word; `None` when it is gone without one.
    pub(super) fn attend(
        &self,
        child: &mut Child,
        run: &RunSpec,
        reports: &mut Reports,
        requested: Receiver<Request>,
    ) -> io::Result<Option<Result<Outcome, TrainError>>> {
        // What is asked of it comes after the run.
        let sent = self.say(run);
        thread::scope(|scope| {
            scope.spawn(move || self.relay(&requested));
            let ended = sent.and_then(|()| self.listen(child, reports));
            self.is_over.store(true, Relaxed);
            ended
        })
    }

    fn say(&self, message: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let mut stdin = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
        stdin.write_all(&line)?;
        stdin.flush()
    }

    /// Passes on what is asked for; a child that does not follow a cancel in time is killed.
    fn relay(&self, requested: &Receiver<Request>) {
        let mut cancelled: Option<Instant> = None;
        while !self.is_over.load(Relaxed) {
            match requested.recv_timeout(LOOK) {
                Ok(request) => {
                    if request == Some(RequestedAction::Cancel) {
                        self.is_cancelled.store(true, Relaxed);
                        cancelled.get_or_insert_with(Instant::now);
                    }
                    // A child that is gone is noticed where its reports are read.
                    let _ = self.say(&ToChild::Request(request));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => thread::sleep(LOOK),
            }
            self.peak.fetch_max(peak_of(self.pid), Relaxed);
            if cancelled.is_some_and(|since| since.elapsed() > GRACE) {
                tracing::warn!("a cancelled run does not stop; its process is killed");
                let _ = kill_process(self.pid, Signal::KILL);
                return;
            }
        }
    }

    fn listen(
        &self,
        child: &mut Child,
        reports: &mut Reports,
    ) -> io::Result<Option<Result<Outcome, TrainError>>> {
        let Some(stdout) = child.stdout.take() else {
            return Ok(None);
        };
        for line in BufReader::new(stdout).lines() {
            match serde_json::from_str(&line?)? {
                FromChild::Event(event) => reports.event(event),
                FromChild::Checkpoint(files) => {
                    let answer = reports.checkpoint(files);
                    self.say(&ToChild::Checkpoint(answer))?;
                }
                FromChild::Heartbeat => reports.heartbeat(),
                FromChild::Ended(ended) => return Ok(Some(ended)),
            }
        }
        Ok(None)
    }
}

/// Waits a little for a child whose pipe broke, since a dead one breaks it too, then kills it: nobody reads what it says, and it would
/// wait for that for ever. False when it had to be killed.
pub(super) fn ends_itself(child: &mut Child) -> bool {
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

/// The peak of a process's memory, in bytes; 0 when it is gone.
fn peak_of(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) << 10
}
