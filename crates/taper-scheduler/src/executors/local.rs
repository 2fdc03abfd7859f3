//! Runs in this process: a thread for each place, with a pool of its own for the arithmetic, so that no run takes the threads of another
//! or of the API.

use std::{
    any::Any,
    collections::{HashMap, hash_map::Entry},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt};
use rayon::{ThreadPool, ThreadPoolBuilder};
use taper_core::{
    Control, ErrorCode, Outcome, RequestedAction, RunSink, RunSpec, TrainError, Trainer,
};

use super::{
    AttemptId, Away, Executor, Place, Refused, Reports, STACK_BYTES, Ticket, reports::Pulse,
};

/// The time between two looks whether a run has moved. Several fall between two looks of the watchdog.
const PULSE: Duration = Duration::from_millis(250);

/// The worker threads of this process.
pub struct Local {
    trainer: Arc<dyn Trainer>,
    places: Vec<Place>,
    /// One for each place.
    workers: Mutex<Vec<Worker>>,
    runs: Runs,
}

type Runs = Arc<Mutex<HashMap<AttemptId, Run>>>;

/// A run that has not ended.
struct Run {
    place: usize,
    control: Control,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Local {
    /// Starts a worker for each place.
    ///
    /// # Errors
    /// When threads cannot be made.
    pub fn start(trainer: Arc<dyn Trainer>, places: Vec<Place>) -> Result<Self, Refused> {
        let workers = places.iter().enumerate();
        let workers = workers.map(|(index, place)| Worker::start(index, place.threads));
        Ok(Self {
            trainer,
            workers: Mutex::new(workers.collect::<Result<_, _>>()?),
            places,
            runs: Runs::default(),
        })
    }

    fn begin(&self, ticket: Ticket, reports: Reports) -> Result<(), Refused> {
        let attempt = ticket.attempt();
        let (place, control) = (ticket.place, Control::new());
        let pulse = reports.pulse();
        let run = Run {
            place,
            control: control.clone(),
        };
        match lock(&self.runs).entry(attempt.clone()) {
            Entry::Occupied(_) => return Ok(()),
            Entry::Vacant(free) => free.insert(run),
        };
        let order = Order {
            trainer: self.trainer.clone(),
            run: ticket.run,
            control: control.clone(),
            reports,
            listed: Listed {
                attempt,
                of: self.runs.clone(),
            },
        };
        let sent = lock(&self.workers)
            .get(place)
            .map(|worker| worker.send(order));
        sent.unwrap_or_else(|| Err(gone()))?;
        tokio::spawn(keep_telling(control, pulse));
        Ok(())
    }

    fn replace(&self, attempt: &AttemptId) -> Result<(), Refused> {
        let place = lock(&self.runs).get(attempt).map(|run| {
            // Should it wake up one day, it ends at once.
            run.control.request(RequestedAction::Cancel);
            run.place
        });
        let Some(place) = place else { return Ok(()) };
        let another = Worker::start(place, self.places[place].threads)?;
        lock(&self.workers)[place] = another;
        Ok(())
    }
}

impl Executor for Local {
    fn places(&self) -> &[Place] {
        &self.places
    }

    fn submit(&self, ticket: Ticket, reports: Reports) -> BoxFuture<'_, Result<(), Refused>> {
        async move { self.begin(ticket, reports) }.boxed()
    }

    /// A new process has no threads of the one before it.
    fn survey(&self) -> BoxFuture<'_, Result<Vec<AttemptId>, Away>> {
        async { Ok(lock(&self.runs).keys().cloned().collect()) }.boxed()
    }

    fn request<'a>(
        &'a self,
        attempt: &'a AttemptId,
        action: Option<RequestedAction>,
    ) -> BoxFuture<'a, ()> {
        if let Some(run) = lock(&self.runs).get(attempt) {
            match action {
                Some(action) => run.control.request(action),
                None => run.control.withdraw(RequestedAction::Pause),
            }
        }
        async {}.boxed()
    }

    fn abandon<'a>(&'a self, attempt: &'a AttemptId) -> BoxFuture<'a, Result<(), Refused>> {
        async move { self.replace(attempt) }.boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        let workers = std::mem::take(&mut *lock(&self.workers));
        async {
            let joined = tokio::task::spawn_blocking(|| workers.into_iter().for_each(Worker::join));
            if let Err(error) = joined.await {
                tracing::error!(%error, "the workers could not be joined");
            }
        }
        .boxed()
    }
}

/// Tells that a run has moved, as its control shows, until it is over.
async fn keep_telling(control: Control, pulse: Pulse) {
    let mut last = control.heartbeats();
    loop {
        tokio::time::sleep(PULSE).await;
        let heartbeats = control.heartbeats();
        let goes_on = match heartbeats == last {
            true => !pulse.is_over(),
            false => pulse.beat(),
        };
        if !goes_on {
            return;
        }
        last = heartbeats;
    }
}

/// A run and all that it needs.
struct Order {
    trainer: Arc<dyn Trainer>,
    run: RunSpec,
    control: Control,
    reports: Reports,
    listed: Listed,
}

/// A run's place in the list of those that have not ended.
struct Listed {
    attempt: AttemptId,
    of: Runs,
}

impl Drop for Listed {
    fn drop(&mut self) {
        lock(&self.of).remove(&self.attempt);
    }
}

fn gone() -> Refused {
    Refused("the worker thread is gone".to_owned())
}

/// A thread that trains one run after the other.
struct Worker {
    orders: mpsc::Sender<Order>,
    thread: JoinHandle<()>,
}

impl Worker {
    fn start(index: usize, threads: usize) -> Result<Self, Refused> {
        let refused = |error: &dyn std::error::Error| {
            Refused(format!("the worker threads could not be started: {error}"))
        };
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
        Ok(Self { orders, thread })
    }

    fn send(&self, order: Order) -> Result<(), Refused> {
        self.orders.send(order).map_err(|_| gone())
    }

    /// Ends the thread, which must be idle.
    fn join(self) {
        drop(self.orders);
        if self.thread.join().is_err() {
            tracing::error!("a worker thread broke down");
        }
    }
}

fn serve(pool: &ThreadPool, orders: &mpsc::Receiver<Order>) {
    while let Ok(order) = orders.recv() {
        let Order {
            trainer,
            run,
            control,
            mut reports,
            listed,
        } = order;
        let train = || train(&*trainer, &run, &mut reports, &control);
        let trained = catch_unwind(AssertUnwindSafe(|| pool.install(train)));
        let result = trained.unwrap_or_else(|payload| Err(panicked(&*payload)));
        drop(listed);
        reports.ended(result);
    }
}

fn train(
    trainer: &dyn Trainer,
    run: &RunSpec,
    sink: &mut dyn RunSink,
    control: &Control,
) -> Result<Outcome, TrainError> {
    control.check()?;
    trainer.train(run, sink, control)
}

/// What a panic becomes: the end of this job alone.
pub(crate) fn panicked(payload: &(dyn Any + Send)) -> TrainError {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    let message = format!("the training broke down by a fault of the program: {text}");
    TrainError::failed(ErrorCode::Panic, message)
}
