use std::sync::Arc;

use taper_core::JobState;
use taper_scheduler::Scheduler;
use taper_store::{ChunkedUpload, ExperimentRecord, FileRecord, Job, KeyCounts, Scope, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{ServerConfig, error::ApiError};

/// What every handler can reach; clones share it.
#[derive(Clone)]
pub struct AppState {
    pub(crate) store: Store,
    pub(crate) scheduler: Scheduler,
    pub(crate) config: Arc<ServerConfig>,
    /// Fires when the server is to end; open streams end then.
    pub(crate) shutdown: CancellationToken,
    /// Tells open streams that a key was made or revoked, or a session ended.
    pub(crate) key_news: watch::Sender<KeyCounts>,
}

impl AppState {
    pub fn new(store: Store, scheduler: Scheduler, config: ServerConfig) -> Self {
        Self {
            store,
            scheduler,
            config: Arc::new(config),
            shutdown: CancellationToken::new(),
            key_news: watch::Sender::default(),
        }
    }

    /// Finds the job that a path names.
    pub(crate) async fn job(&self, scope: &Scope, id: &str) -> Result<Job, ApiError> {
        let job = self.store.job(scope, id).await?;
        job.ok_or_else(|| ApiError::no_job(id))
    }

    /// Finds the experiment that a path names.
    pub(crate) async fn experiment(
        &self,
        scope: &Scope,
        id: &str,
    ) -> Result<ExperimentRecord, ApiError> {
        let experiment = self.store.experiment(scope, id).await?;
        experiment.ok_or_else(|| ApiError::no_experiment(id))
    }

    /// Finds the upload that a path names.
    pub(crate) async fn upload(&self, scope: &Scope, id: &str) -> Result<ChunkedUpload, ApiError> {
        let upload = self.store.upload(scope, id).await?;
        upload.ok_or_else(|| ApiError::no_upload(id))
    }

    /// Finds the file that a path names.
    pub(crate) async fn file(&self, scope: &Scope, id: &str) -> Result<FileRecord, ApiError> {
        let file = self.store.file(scope, id).await?;
        file.ok_or_else(|| ApiError::no_file(id))
    }
}

/// The 400 for a wish that a job's state does not allow.
pub(crate) fn wrong_state(job: &str, state: JobState, wish: &str) -> ApiError {
    ApiError::bad_request(format!("job {job} is {state}; {wish}")).coded("invalid_state")
}
