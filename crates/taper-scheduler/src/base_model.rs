//! What a job starts from: a folder of the models directory, or what an earlier job has made.

use std::path::PathBuf;

use taper_core::{ErrorCode, FieldError, StartFrom, StartWeights};
use taper_store::{ObjectKey, Scope, Store, StoreError, TunedFrom};

use crate::model_folders::ModelFolders;

/// Where the weights lie that a run begins with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BaseModel {
    /// A whole model.
    pub(crate) dir: PathBuf,
    /// What is trained on top of it, if it was begun by an earlier job.
    pub(crate) start_from: Option<StartFrom>,
}

/// Finds what a name in the body of a job stands for.
pub(crate) struct BaseModels {
    pub(crate) store: Store,
    pub(crate) folders: ModelFolders,
}

impl BaseModels {
    /// What a name stands for; a finding when it stands for nothing.
    pub(crate) async fn find(
        &self,
        scope: &Scope,
        name: &str,
    ) -> Result<Result<BaseModel, FieldError>, StoreError> {
        if let Some(dir) = self.folders.find(name).await {
            let start_from = None;
            return Ok(Ok(BaseModel { dir, start_from }));
        }
        let Some(tuned) = self.store.tuned(scope, name).await? else {
            return Ok(Err(FieldError::model_not_found(name)));
        };
        let start_from = self.start_from(name, &tuned).await?;
        let found = match (&start_from, self.whole_model(&tuned).await?) {
            (None, Some(dir)) => Some(dir),
            _ => self.find_whole(scope, &tuned.job.spec.model).await?,
        };
        Ok(match found {
            Some(dir) => Ok(BaseModel { dir, start_from }),
            None => Err(missing_base(name, &tuned.job.spec.model)),
        })
    }

    /// The whole model under a chain of adapters.
    async fn find_whole(&self, scope: &Scope, name: &str) -> Result<Option<PathBuf>, StoreError> {
        let mut name = name.to_owned();
        loop {
            if let Some(dir) = self.folders.find(&name).await {
                return Ok(Some(dir));
            }
            let Some(tuned) = self.store.tuned(scope, &name).await? else {
                return Ok(None);
            };
            if let Some(dir) = self.whole_model(&tuned).await? {
                return Ok(Some(dir));
            }
            name = tuned.job.spec.model;
        }
    }

    /// The folder of a result that stands by itself.
    async fn whole_model(&self, tuned: &TunedFrom) -> Result<Option<PathBuf>, StoreError> {
        if tuned.checkpoint.is_some() || tuned.job.spec.tuning.method.is_adapter() {
            return Ok(None);
        }
        let model = ObjectKey::artifact(&tuned.job.id, "model");
        Ok(Some(self.store.local(&model).await?))
    }

    /// What has to be put on top of the base to have the model again; `None` = it stands by itself.
    async fn start_from(
        &self,
        name: &str,
        tuned: &TunedFrom,
    ) -> Result<Option<StartFrom>, StoreError> {
        let job = &tuned.job;
        let weights = match &tuned.checkpoint {
            Some(checkpoint) => StartWeights::Checkpoint(self.store.local(&checkpoint.key).await?),
            None if job.spec.tuning.method.is_adapter() => {
                let adapter = ObjectKey::artifact(&job.id, "adapter");
                StartWeights::Adapter(self.store.local(&adapter).await?)
            }
            None => return Ok(None),
        };
        let classes = job.plan.as_ref().map(|plan| plan.classes.clone());
        Ok(Some(StartFrom {
            model: name.to_owned(),
            method: job.spec.tuning.method.clone(),
            classes: classes.unwrap_or_default(),
            weights,
        }))
    }
}

fn missing_base(name: &str, base: &str) -> FieldError {
    let message = format!(
        "the model '{name}' stands on the model '{base}', which is no longer there; put it back or start from another"
    );
    FieldError::new("model", ErrorCode::ModelNotFound, message)
}
