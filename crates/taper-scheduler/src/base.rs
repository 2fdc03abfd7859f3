//! What a job starts from: a folder of the models directory, or what an earlier job has made.

use std::path::PathBuf;

use taper_core::{FieldError, StartFrom, StartWeights, code};
use taper_store::{Scope, StoreError, TunedFrom};

use crate::{models, scheduler::Shared};

/// Where the weights lie that a run begins with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Base {
    /// A whole model.
    pub(crate) dir: PathBuf,
    /// What is trained on top of it, if it was begun by an earlier job.
    pub(crate) start_from: Option<StartFrom>,
}

impl Shared {
    /// Finds what a name in the body of a job stands for; a finding when it stands for nothing.
    pub(crate) async fn find_base(
        &self,
        scope: &Scope,
        name: &str,
    ) -> Result<Result<Base, FieldError>, StoreError> {
        if let Some(dir) = self.find_folder(name).await {
            let start_from = None;
            return Ok(Ok(Base { dir, start_from }));
        }
        let Some(tuned) = self.store.tuned(scope, name).await? else {
            return Ok(Err(FieldError::model_not_found(name)));
        };
        let start_from = self.start_from(name, &tuned);
        let found = match (&start_from, self.whole_model(&tuned)) {
            (None, Some(dir)) => Some(dir),
            _ => self.find_whole(scope, &tuned.job.spec.model).await?,
        };
        Ok(match found {
            Some(dir) => Ok(Base { dir, start_from }),
            None => Err(missing_base(name, &tuned.job.spec.model)),
        })
    }

    /// The folder of a base model, off the async threads: the disk of the models may not answer.
    pub(crate) async fn find_folder(&self, name: &str) -> Option<PathBuf> {
        let (models_dir, name) = (self.config.models_dir.clone(), name.to_owned());
        let found =
            tokio::task::spawn_blocking(move || models::find_folder(&models_dir, &name)).await;
        found.ok().flatten()
    }

    /// The whole model under a chain of adapters.
    async fn find_whole(&self, scope: &Scope, name: &str) -> Result<Option<PathBuf>, StoreError> {
        let mut name = name.to_owned();
        loop {
            if let Some(dir) = self.find_folder(&name).await {
                return Ok(Some(dir));
            }
            let Some(tuned) = self.store.tuned(scope, &name).await? else {
                return Ok(None);
            };
            if let Some(dir) = self.whole_model(&tuned) {
                return Ok(Some(dir));
            }
            name = tuned.job.spec.model;
        }
    }

    /// The folder of a result that stands by itself.
    fn whole_model(&self, tuned: &TunedFrom) -> Option<PathBuf> {
        let is_whole = tuned.checkpoint.is_none() && !tuned.job.spec.tuning.method.is_adapter();
        is_whole.then(|| self.store.run_dir(&tuned.job.id).join("output/model"))
    }

    /// What has to be put on top of the base to have the model again; `None` = it stands by itself.
    fn start_from(&self, name: &str, tuned: &TunedFrom) -> Option<StartFrom> {
        let job = &tuned.job;
        let weights = match &tuned.checkpoint {
            Some(checkpoint) => StartWeights::Checkpoint(checkpoint.dir.clone()),
            None if job.spec.tuning.method.is_adapter() => {
                StartWeights::Adapter(self.store.run_dir(&job.id).join("output/adapter"))
            }
            None => return None,
        };
        let classes = job.plan.as_ref().map(|plan| plan.classes.clone());
        Some(StartFrom {
            model: name.to_owned(),
            method: job.spec.tuning.method.clone(),
            classes: classes.unwrap_or_default(),
            weights,
        })
    }
}

fn missing_base(name: &str, base: &str) -> FieldError {
    let message = format!(
        "the model '{name}' stands on the model '{base}', which is no longer there; put it back or start from another"
    );
    FieldError::new("model", code::MODEL_NOT_FOUND, message)
}
