use taper_core::{Action, JobState, Run, experiment::overall};
use taper_store::{ExperimentRecord, Job, Store, StoreError};

use crate::ExperimentError;

/// An experiment without what its runs have come to: all that an action looks at.
pub(crate) struct Standing {
    pub(crate) record: ExperimentRecord,
    pub(crate) jobs: Vec<Job>,
    pub(crate) runs: Vec<Run>,
    pub(crate) state: JobState,
}

impl Standing {
    pub(crate) async fn of(store: &Store, record: ExperimentRecord) -> Result<Self, StoreError> {
        let jobs = store.experiment_jobs(&record).await?;
        let runs: Vec<_> = jobs.iter().filter_map(Job::run).collect();
        Ok(Self {
            state: overall(runs.iter(), record.paused),
            record,
            jobs,
            runs,
        })
    }

    pub(crate) fn refused(self, action: Action) -> ExperimentError {
        ExperimentError::WrongState {
            id: self.record.id,
            state: self.state,
            action,
        }
    }
}
