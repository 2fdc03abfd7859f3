//! How sure an experiment's differences are. That takes a second for a large one, and changes only when a run ends; so it is kept.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use taper_core::{
    Comparison, JobState, Run, RunSpec,
    experiment::{Intervals, RowScores},
};
use taper_store::{ExperimentRecord, Job};

use crate::{RunnerError, runner::Shared, submit::blocking};

/// The runs that have ended, and how: what intervals depend on.
type Ends = Vec<(String, JobState)>;

/// Intervals by experiment, each with the ends that they were made after.
#[derive(Debug, Default)]
pub(crate) struct KnownIntervals(Mutex<HashMap<String, Known>>);

#[derive(Debug, Clone)]
struct Known {
    ends: Ends,
    intervals: Arc<Intervals>,
}

impl KnownIntervals {
    fn get(&self, experiment: &str, ends: &[(String, JobState)]) -> Option<Arc<Intervals>> {
        let all = self.lock();
        let known = all.get(experiment)?;
        (known.ends == ends).then(|| known.intervals.clone())
    }

    pub(crate) fn forget(&self, experiment: &str) {
        self.lock().remove(experiment);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        // A map of finished values cannot be left half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let ended = runs.iter().filter(|run| run.state.is_terminal());
        let ends: Ends = ended.map(|run| (run.job.clone(), run.state)).collect();
        if let Some(intervals) = self.intervals.get(&record.id, &ends) {
            return Ok(intervals);
        }
        let mut tables = BTreeMap::new();
        let measured: Vec<&str> = Comparison::measured(runs).collect();
        for job in jobs
            .iter()
            .filter(|job| measured.contains(&job.id.as_str()))
        {
            let found = self.store.artifact(job, RunSpec::VALIDATION_ROWS).await?;
            tables.extend(found.map(|(_, path)| (job.id.clone(), path)));
        }
        let (spec, runs) = (record.spec.clone(), runs.to_vec());
        let intervals = blocking(move || {
            let scored = |(job, path): (String, PathBuf)| Some((job, read(&path)?));
            let scores = tables.into_iter().filter_map(scored).collect();
            Arc::new(Comparison::intervals(&spec, &runs, &scores))
        });
        let intervals = intervals.await?;
        let known = Known {
            ends,
            intervals: intervals.clone(),
        };
        self.intervals.lock().insert(record.id.clone(), known);
        Ok(intervals)
    }
}

/// What a run has made of each row. A table that cannot be read leaves its configuration without an interval.
fn read(path: &Path) -> Option<RowScores> {
    let scores = File::open(path).map_err(|error| error.to_string());
    let scores = scores.and_then(|file| RowScores::read(file).map_err(|error| error.to_string()));
    scores
        .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "a table of validation rows cannot be read"))
        .ok()
}
