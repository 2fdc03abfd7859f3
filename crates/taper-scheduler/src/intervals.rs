//! The intervals of experiments' differences: they take the cores for a moment, so each is made once, in the background, and outlives
//! who has asked for it.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use taper_core::{
    Comparison, Experiment, Run, RunSpec,
    experiment::{Intervals, Pairs, RowScores},
};
use taper_store::{ExperimentRecord, Job, StoreError};
use tokio::{
    sync::{Mutex as Turn, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{SchedulerError, scheduler::Shared, submit::blocking};

/// Experiments whose intervals are made at the same time: it takes the cores from training.
const AT_ONCE: usize = 2;

/// The tables of validation rows, by job.
type Tables = HashMap<String, PathBuf>;

/// How long somebody waits for intervals that are yet to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wait {
    /// Until all are there.
    Whole,
    /// Until then; whoever comes later finds more.
    Until(Instant),
}

/// What is known of an experiment's intervals at a moment.
pub(crate) struct Told {
    pub(crate) intervals: Intervals,
    /// None is being made any more.
    pub(crate) is_whole: bool,
}

/// The intervals of each experiment.
#[derive(Debug)]
pub(crate) struct KnownIntervals {
    experiments: Mutex<HashMap<String, Arc<Known>>>,
    makers: Arc<Semaphore>,
}

/// The intervals of one experiment. Who needs some that are not there takes the turn and has them made; whoever comes meanwhile waits for
/// the turn and finds them.
#[derive(Debug, Default)]
struct Known {
    made: Mutex<BTreeMap<usize, Made>>,
    turn: Arc<Turn<()>>,
}

/// An interval, and the jobs that it was made from; `None` = these have none.
#[derive(Debug)]
struct Made {
    pairs: Vec<[String; 2]>,
    interval: Option<[f64; 2]>,
}

impl Default for KnownIntervals {
    fn default() -> Self {
        Self {
            experiments: Mutex::default(),
            makers: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl KnownIntervals {
    fn of(&self, experiment: &str) -> Arc<Known> {
        lock(&self.experiments)
            .entry(experiment.to_owned())
            .or_default()
            .clone()
    }

    pub(crate) fn forget(&self, experiment: &str) {
        lock(&self.experiments).remove(experiment);
    }
}

impl Known {
    /// The intervals that are there, of those that are wanted.
    fn intervals(&self, wanted: &Pairs) -> Intervals {
        let made = lock(&self.made);
        let interval = |(configuration, pairs): (&usize, &Vec<[String; 2]>)| {
            let made = made.get(configuration).filter(|it| it.pairs == *pairs)?;
            Some((*configuration, made.interval?))
        };
        wanted.iter().filter_map(interval).collect()
    }

    /// Those that are to be made.
    fn missing(&self, mut wanted: Pairs) -> Pairs {
        let made = lock(&self.made);
        wanted.retain(|configuration, pairs| {
            made.get(configuration).is_none_or(|it| it.pairs != *pairs)
        });
        wanted
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A map of finished values cannot be left half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// The intervals of an experiment's differences, as far as its runs have ended. Those that are missing are made, however long
    /// somebody waits.
    pub(crate) async fn intervals_of(
        self: &Arc<Self>,
        record: &ExperimentRecord,
        jobs: &[Job],
        runs: &[Run],
        wait: Wait,
    ) -> Result<Told, SchedulerError> {
        let wanted = Comparison::pairs(&record.spec, runs);
        if wanted.is_empty() {
            return Ok(Told {
                intervals: Intervals::new(),
                is_whole: true,
            });
        }
        let known = self.intervals.of(&record.id);
        let making = self.make(known.clone(), &record.spec, jobs, &wanted);
        let made = match wait {
            Wait::Whole => Ok(making.await),
            Wait::Until(end) => timeout_at(end, making).await,
        };
        let is_whole = made.is_ok();
        made.unwrap_or(Ok(()))?;
        Ok(Told {
            intervals: known.intervals(&wanted),
            is_whole,
        })
    }

    /// Waits for the turn and makes what is missing then.
    async fn make(
        self: &Arc<Self>,
        known: Arc<Known>,
        spec: &Experiment,
        jobs: &[Job],
        wanted: &Pairs,
    ) -> Result<(), SchedulerError> {
        let turn = known.turn.clone().lock_owned().await;
        let missing = known.missing(wanted.clone());
        if missing.is_empty() {
            return Ok(());
        }
        let measured: Vec<&String> = missing.values().flatten().flatten().collect();
        let jobs = jobs.iter().filter(|job| measured.contains(&&job.id));
        let jobs = jobs.cloned().collect();
        let (shared, spec) = (self.clone(), spec.clone());
        let task = tokio::spawn(async move {
            let maker = Maker {
                tables: shared.tables(jobs).await?,
                permit: shared.permit().await?,
                stopping: shared.stopping.clone(),
                known,
                turn,
                spec,
            };
            blocking(move || maker.make(missing)).await?
        });
        task.await
            .map_err(|error| SchedulerError::Inspection(error.to_string()))?
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, SchedulerError> {
        let makers = self.intervals.makers.clone();
        tokio::select! {
            () = self.stopping.cancelled() => Err(SchedulerError::Stopping),
            permit = makers.acquire_owned() => permit.map_err(|_| SchedulerError::Stopping),
        }
    }

    async fn tables(&self, jobs: Vec<Job>) -> Result<Tables, StoreError> {
        let mut tables = Tables::new();
        for job in jobs {
            let found = self.store.artifact(&job, RunSpec::VALIDATION_ROWS).await?;
            tables.extend(found.map(|(_, path)| (job.id, path)));
        }
        Ok(tables)
    }
}

/// Makes the intervals of an experiment while it holds its turn and a permit.
struct Maker {
    tables: Tables,
    permit: OwnedSemaphorePermit,
    stopping: CancellationToken,
    known: Arc<Known>,
    turn: OwnedMutexGuard<()>,
    spec: Experiment,
}

impl Maker {
    /// Makes one after the other, so that no more rows are in memory than those of the best and of one other. One whose tables cannot be
    /// read now is left for the next time.
    fn make(self, missing: Pairs) -> Result<(), SchedulerError> {
        let mut scores = BTreeMap::new();
        for (configuration, pairs) in missing {
            if self.stopping.is_cancelled() {
                return Err(SchedulerError::Stopping);
            }
            scores.retain(|job, _| pairs.iter().any(|[_, best]| best == job));
            let jobs = pairs.iter().flatten();
            let read = jobs.map(|job| self.read(job, &mut scores));
            if read.collect::<io::Result<()>>().is_err() {
                continue;
            }
            let made = Made {
                interval: Comparison::interval(&self.spec, &pairs, &scores),
                pairs,
            };
            lock(&self.known.made).insert(configuration, made);
        }
        drop((self.turn, self.permit));
        Ok(())
    }

    /// Reads what a run has made of each row, unless it is there. A damaged table has no rows, and so its configuration no interval.
    fn read(&self, job: &str, scores: &mut BTreeMap<String, RowScores>) -> io::Result<()> {
        let Some(path) = self.tables.get(job).filter(|_| !scores.contains_key(job)) else {
            return Ok(());
        };
        let told = path.display();
        let table = fs::read(path).inspect_err(
            |error| tracing::warn!(path = %told, %error, "a table of validation rows cannot be read now"),
        )?;
        let table = RowScores::read(table.as_slice()).unwrap_or_else(|error| {
            tracing::warn!(path = %told, %error, "a table of validation rows is damaged");
            RowScores::default()
        });
        scores.insert(job.to_owned(), table);
        Ok(())
    }
}
