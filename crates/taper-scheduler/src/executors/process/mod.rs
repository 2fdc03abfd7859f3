//! Runs in child processes of this binary (`taper serve --isolate`), so that one that is killed for its memory, or that aborts, takes
//! only itself along. A child gets the run on its first line of stdin and then what is asked of it, and reports on stdout, in lines of
//! JSON; its log goes where the server's goes.

mod child;
mod messages;
mod pipe;

use std::{
    collections::{HashMap, hash_map::Entry},
    env, io,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    thread,
};

use futures_util::future::{BoxFuture, FutureExt};
use taper_core::{ErrorCode, Outcome, RequestedAction, RunSpec, Stop, TrainError};

pub use self::child::run_child;
use self::pipe::{Pipe, ends_itself};
use super::{AttemptId, Away, Executor, Place, Refused, Reports, Ticket};

/// What a process that panics exits with.
const PANICKED: i32 = 101;
const KILLED: i32 = 9;

/// What is asked of a run now.
type Request = Option<RequestedAction>;
type Children = Arc<Mutex<HashMap<AttemptId, Sender<Request>>>>;

/// Child processes of this binary.
pub struct Process {
    /// The words after this binary's name with which a child begins, for [`run_child`].
    arguments: Vec<String>,
    places: Vec<Place>,
    children: Children,
}

impl Process {
    pub fn new(arguments: Vec<String>, places: Vec<Place>) -> Self {
        Self {
            arguments,
            places,
            children: Children::default(),
        }
    }

    fn children(&self) -> MutexGuard<'_, HashMap<AttemptId, Sender<Request>>> {
        lock(&self.children)
    }

    fn begin(&self, ticket: Ticket, mut reports: Reports) -> Result<(), Refused> {
        let attempt = ticket.attempt();
        let (requests, requested) = mpsc::channel();
        match self.children().entry(attempt.clone()) {
            Entry::Occupied(_) => return Ok(()),
            Entry::Vacant(free) => free.insert(requests),
        };
        let (arguments, children) = (self.arguments.clone(), self.children.clone());
        let key = attempt.clone();
        // The child dies with the thread that has made it.
        let watching = thread::Builder::new()
            .name("run".to_owned())
            .spawn(move || {
                let ended = train(&arguments, &ticket.run, &mut reports, requested);
                lock(&children).remove(&key);
                reports.ended(ended);
            });
        if let Err(error) = watching {
            self.children().remove(&attempt);
            return Err(Refused(format!("the run's process: {error}")));
        }
        Ok(())
    }

    fn send(&self, attempt: &AttemptId, request: Request) {
        if let Some(requests) = self.children().get(attempt) {
            // One that is over needs nothing any more.
            let _ = requests.send(request);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Executor for Process {
    fn places(&self) -> &[Place] {
        &self.places
    }

    fn submit(&self, ticket: Ticket, reports: Reports) -> BoxFuture<'_, Result<(), Refused>> {
        async move { self.begin(ticket, reports) }.boxed()
    }

    /// The children of a server end with it.
    fn survey(&self) -> BoxFuture<'_, Result<Vec<AttemptId>, Away>> {
        async { Ok(self.children().keys().cloned().collect()) }.boxed()
    }

    fn request<'a>(&'a self, attempt: &'a AttemptId, action: Request) -> BoxFuture<'a, ()> {
        self.send(attempt, action);
        async {}.boxed()
    }

    /// The next run has a process of its own.
    fn abandon<'a>(&'a self, attempt: &'a AttemptId) -> BoxFuture<'a, Result<(), Refused>> {
        self.send(attempt, Some(RequestedAction::Cancel));
        async { Ok(()) }.boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}

fn spawn(arguments: &[String]) -> io::Result<Child> {
    Command::new(env::current_exe()?)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // A Ctrl-C is for the server, which then asks for a checkpoint.
        .process_group(0)
        .spawn()
}

/// Has a child train, and says how it has ended.
fn train(
    arguments: &[String],
    run: &RunSpec,
    reports: &mut Reports,
    requested: Receiver<Request>,
) -> Result<Outcome, TrainError> {
    let cannot = |error: io::Error| TrainError::internal(format!("the run's process: {error}"));
    let mut child = spawn(arguments).map_err(cannot)?;
    let pipe = Pipe::of(&mut child).map_err(cannot)?;
    let ended = pipe.attend(&mut child, run, reports, requested);
    let killed = ended.is_err() && !ends_itself(&mut child);
    let status = child.wait().map_err(cannot)?;
    match ended {
        Ok(Some(ended)) => ended,
        // One that did not follow in time was killed, which is no failure.
        _ if pipe.is_cancelled() => Err(Stop::Cancelled.into()),
        Err(error) if killed => Err(TrainError::failed(
            ErrorCode::Crashed,
            format!("the line to the run's process broke: {error}"),
        )),
        Ok(None) | Err(_) => Err(died(status, pipe.peak())),
    }
}

/// What the end of a child without a last word means.
fn died(status: ExitStatus, peak: u64) -> TrainError {
    let peak = peak >> 20;
    let (code, message) = match (status.signal(), status.code()) {
        (Some(KILLED), _) => (
            ErrorCode::OomKilled,
            format!(
                "the run's process was killed from outside at {peak} MiB, as the system does when memory runs out; \
                 a smaller batch or max_length takes less"
            ),
        ),
        (Some(signal), _) => (
            ErrorCode::Crashed,
            format!(
                "the run's process was ended by signal {signal} at {peak} MiB; the server's log may say more"
            ),
        ),
        (None, Some(PANICKED)) => (
            ErrorCode::Panic,
            "the training broke down by a fault of the program; the server's log has the message"
                .to_owned(),
        ),
        (None, code) => (
            ErrorCode::Crashed,
            format!(
                "the run's process ended with code {code:?} and no result; the server's log may say more"
            ),
        ),
    };
    TrainError::failed(code, message)
}
