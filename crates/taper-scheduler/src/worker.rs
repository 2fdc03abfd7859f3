use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};

use rayon::{ThreadPool, ThreadPoolBuilder};
use taper_core::{Control, Outcome, RunSpec, TrainError, Trainer};
use tokio::sync::oneshot;

use crate::{
    SchedulerError, commit_retry::panic_message, ledger::Held, report::Sink, validation::internal,
};

/// Deep graphs recurse when they are dropped and walked backwards. Only what is touched takes memory.
const STACK_BYTES: usize = 64 << 20;

/// A run and all that it needs.
pub(crate) struct Assignment {
    pub(crate) trainer: Arc<dyn Trainer>,
    pub(crate) run: RunSpec,
    pub(crate) sink: Sink,
    pub(crate) control: Control,
    /// The memory that the run takes, also when nobody waits for its end any more.
    pub(crate) held: Held,
}

type Ended = Result<Outcome, TrainError>;
type Order = (Assignment, oneshot::Sender<Ended>);

/// How a run ends, some time.
pub(crate) struct Ending(oneshot::Receiver<Ended>);

impl Ending {
    /// Waits for it. May be dropped and called again.
    pub(crate) async fn wait(&mut self) -> Ended {
        (&mut self.0).await.unwrap_or_else(|_| Err(gone()))
    }
}

fn gone() -> TrainError {
    internal("the worker thread is gone".to_owned())
}

/// A thread that trains, with a pool of its own for the arithmetic, so that no run takes the threads of another or of the API.
pub(crate) struct Worker {
    index: usize,
    threads: usize,
    orders: mpsc::Sender<Order>,
    thread: JoinHandle<()>,
}

impl Worker {
    pub(crate) fn start(index: usize, threads: usize) -> Result<Self, SchedulerError> {
        let refused = |error: &dyn std::error::Error| SchedulerError::Workers(error.to_string());
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(move |thread| format!("worker-{index}-{thread}"))
            .stack_size(STACK_BYTES)
            .build()
            .map_err(|error| refused(&error))?;
        let (orders, incoming) = mpsc::channel();
        let thread = thread::Builder::new()
            .name(format!("worker-{index}"))
            .stack_size(STACK_BYTES)
            .spawn(move || serve(&pool, &incoming))
            .map_err(|error| refused(&error))?;
        Ok(Self {
            index,
            threads,
            orders,
            thread,
        })
    }

    /// A worker in the place of this one, whose run does not end.
    pub(crate) fn another(&self) -> Result<Self, SchedulerError> {
        Self::start(self.index, self.threads)
    }

    /// Begins to train; what breaks is caught.
    pub(crate) fn begin(&self, assignment: Assignment) -> Result<Ending, TrainError> {
        let (reply, answer) = oneshot::channel();
        self.orders.send((assignment, reply)).map_err(|_| gone())?;
        Ok(Ending(answer))
    }

    /// Ends the thread, which must be idle.
    pub(crate) fn join(self) {
        drop(self.orders);
        if self.thread.join().is_err() {
            tracing::error!("a worker thread broke down");
        }
    }
}

fn serve(pool: &ThreadPool, orders: &mpsc::Receiver<Order>) {
    while let Ok((assignment, reply)) = orders.recv() {
        let trained = catch_unwind(AssertUnwindSafe(|| pool.install(|| train(assignment))));
        let result = trained.unwrap_or_else(|payload| Err(panic_message(&*payload)));
        // The slot waits for it unless the process is ending.
        drop(reply.send(result));
    }
}

fn train(assignment: Assignment) -> Result<Outcome, TrainError> {
    let Assignment {
        trainer,
        run,
        mut sink,
        control,
        held,
    } = assignment;
    control.check()?;
    let trained = trainer.train(&run, &mut sink, &control);
    drop(held);
    trained
}
