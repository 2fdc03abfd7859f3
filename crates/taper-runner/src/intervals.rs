//! The intervals of experiments' differences: they take the cores for a moment, so they are made once after each end of a run.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use taper_core::{
    Comparison, JobState, Run, RunSpec,
    experiment::{Intervals, RowScores},
};
use taper_store::{ExperimentRecord, Job, StoreError};
use tokio::sync::{Mutex as Turn, Semaphore};

use crate::{RunnerError, runner::Shared, submit::blocking};

/// Experiments whose intervals are made at the same time: it takes the cores from training.
const AT_ONCE: usize = 2;

/// The runs that have ended, and how: what intervals depend on.
type Ends = Vec<(String, JobState)>;
/// The tables of validation rows, by job.
type Tables = Vec<(String, PathBuf)>;

/// The intervals of each experiment. Who needs some that are not there takes the experiment's turn and makes them; whoever comes
/// meanwhile waits for the turn and finds them.
#[derive(Debug)]
pub(crate) struct KnownIntervals {
    turns: Mutex<HashMap<String, Arc<Turn<Option<Known>>>>>,
    makers: Arc<Semaphore>,
}

#[derive(Debug)]
struct Known {
    ends: Ends,
    intervals: Arc<Intervals>,
}

impl Default for KnownIntervals {
    fn default() -> Self {
        Self {
            turns: Mutex::default(),
            makers: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl KnownIntervals {
    fn turn(&self, experiment: &str) -> Arc<Turn<Option<Known>>> {
        self.lock()
            .entry(experiment.to_owned())
            .or_default()
            .clone()
    }

    pub(crate) fn forget(&self, experiment: &str) {
        self.lock().remove(experiment);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Turn<Option<Known>>>>> {
        // A map of finished values cannot be left half changed.
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// The intervals of an experiment's differences, as far as its runs have ended.
    pub(crate) async fn intervals_of(
        &self,
        record: &ExperimentRecord,
        jobs: &[Job],
        runs: &[Run],
    ) -> Result<Arc<Intervals>, RunnerError> {
        if Comparison::measured(runs).next().is_none() {
            return Ok(Arc::default());
        }
        let ended = runs.iter().filter(|run| run.state.is_terminal());
        let ends: Ends = ended.map(|run| (run.job.clone(), run.state)).collect();
        let mut turn = self.intervals.turn(&record.id).lock_owned().await;
        if let Some(known) = turn.as_ref().filter(|known| known.ends == ends) {
            return Ok(known.intervals.clone());
        }
        let tables = self.tables(jobs, runs).await?;
        let maker = self.intervals.makers.clone().acquire_owned().await;
        let maker = maker.map_err(|_| RunnerError::Stopping)?;
        let (spec, runs) = (record.spec.clone(), runs.to_vec());
        // What is begun is kept, also when its request has gone meanwhile.
        blocking(move || {
            let (scores, is_final) = read_all(tables);
            let intervals = Arc::new(Comparison::intervals(&spec, &runs, &scores));
            *turn = is_final.then(|| Known {
                ends,
                intervals: intervals.clone(),
            });
            drop(maker);
            intervals
        })
        .await
    }

    async fn tables(&self, jobs: &[Job], runs: &[Run]) -> Result<Tables, StoreError> {
        let measured: Vec<&str> = Comparison::measured(runs).collect();
        let mut tables = Tables::new();
        for job in jobs
            .iter()
            .filter(|job| measured.contains(&job.id.as_str()))
        {
            let found = self.store.artifact(job, RunSpec::VALIDATION_ROWS).await?;
            tables.extend(found.map(|(_, path)| (job.id.clone(), path)));
        }
        Ok(tables)
    }
}

/// What each run has made of its rows, and whether it will be the same the next time.
fn read_all(tables: Tables) -> (BTreeMap<String, RowScores>, bool) {
    let mut is_final = true;
    let mut scores = BTreeMap::new();
    for (job, path) in tables {
        match read(&path) {
            Ok(table) => scores.extend(table.map(|table| (job, table))),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a table of validation rows cannot be read now");
                is_final = false;
            }
        }
    }
    (scores, is_final)
}

/// What a run has made of each row; `None` when the table is damaged, which leaves its configuration without an interval.
fn read(path: &Path) -> io::Result<Option<RowScores>> {
    let table = fs::read(path)?;
    let scores = RowScores::read(table.as_slice()).inspect_err(
        |error| tracing::warn!(path = %path.display(), %error, "a table of validation rows is damaged"),
    );
    Ok(scores.ok())
}
