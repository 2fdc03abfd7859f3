//! What can be named as a model.

use std::path::Path;

use taper_store::{Scope, Store};

use crate::{
    blocking::blocking,
    error::SchedulerError,
    model_folders::{Model, ModelFolders},
};

/// The folders of the models directory, and what jobs have made.
pub(crate) struct Models {
    pub(crate) store: Store,
    pub(crate) folders: ModelFolders,
}

impl Models {
    /// Lists all models: folders by name, which are everybody's, then tuned ones of the scope, newest first.
    pub(crate) async fn list(&self, scope: &Scope) -> Result<Vec<Model>, SchedulerError> {
        let mut models = self.folders.list().await?;
        let tuned = self.store.tuned_models(scope).await?.into_iter();
        models.extend(tuned.map(|it| Model::tuned(it.name, it.created_at)));
        Ok(models)
    }

    /// Finds a model by its id; checkpoints have ids as well.
    pub(crate) async fn find(&self, scope: &Scope, id: &str) -> Result<Model, SchedulerError> {
        if let Some(dir) = self.folders.find(id).await {
            return described(id, &dir).await;
        }
        let tuned = self.store.tuned(scope, id).await?;
        let tuned = tuned.ok_or_else(|| SchedulerError::NoModel(id.to_owned()))?;
        let created = match tuned.checkpoint {
            Some(checkpoint) => checkpoint.created_at,
            None => tuned.job.finished_at.unwrap_or(tuned.job.created_at),
        };
        Ok(Model::tuned(id.to_owned(), created))
    }

    /// Deletes what a job has made, a model or a checkpoint.
    pub(crate) async fn delete(&self, scope: &Scope, id: &str) -> Result<(), SchedulerError> {
        if self.folders.find(id).await.is_some() {
            return Err(SchedulerError::NotDeletable(id.to_owned()));
        }
        match self.store.delete_model(scope, id).await? {
            true => Ok(()),
            false => Err(SchedulerError::NoModel(id.to_owned())),
        }
    }
}

async fn described(id: &str, dir: &Path) -> Result<Model, SchedulerError> {
    let (id, dir) = (id.to_owned(), dir.to_owned());
    blocking(move || Model::folder(id, &dir)).await
}
