use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use taper_store::Scope;

use crate::{Scheduler, SchedulerError, submit::blocking};

/// A model that can be named: a folder of the models directory, or what a succeeded job has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    pub id: String,
    /// Unix seconds.
    pub created: i64,
    /// `system` for a folder, `user` for a tuned model.
    pub owned_by: String,
}

impl Scheduler {
    /// Lists all models: folders by name, which are everybody's, then tuned ones of the scope, newest first.
    ///
    /// # Errors
    /// When the models directory cannot be read.
    pub async fn models(&self, scope: &Scope) -> Result<Vec<Model>, SchedulerError> {
        let dir = self.shared.config.models_dir.clone();
        let listed = tokio::task::spawn_blocking(move || base_models(&dir)).await;
        let mut models = listed.unwrap_or_else(|error| Err(io::Error::other(error)))?;
        let tuned = self.shared.store.tuned_models(scope).await?;
        models.extend(
            tuned
                .into_iter()
                .map(|it| Model::tuned(it.name, it.created_at)),
        );
        Ok(models)
    }

    /// Finds a model by its id; checkpoints have ids as well.
    ///
    /// # Errors
    /// [`SchedulerError::NoModel`] when there is none of that name.
    pub async fn model(&self, scope: &Scope, id: &str) -> Result<Model, SchedulerError> {
        let (models_dir, name) = (self.shared.config.models_dir.clone(), id.to_owned());
        let folder = blocking(move || {
            let dir = find_folder(&models_dir, &name)?;
            Some(Model::folder(name, &dir))
        });
        if let Some(model) = folder.await? {
            return Ok(model);
        }
        let tuned = self.shared.store.tuned(scope, id).await?;
        let tuned = tuned.ok_or_else(|| SchedulerError::NoModel(id.to_owned()))?;
        let created = match tuned.checkpoint {
            Some(checkpoint) => checkpoint.created_at,
            None => tuned.job.finished_at.unwrap_or(tuned.job.created_at),
        };
        Ok(Model::tuned(id.to_owned(), created))
    }

    /// Deletes what a job has made, a model or a checkpoint.
    ///
    /// # Errors
    /// [`SchedulerError::NoModel`]; [`SchedulerError::NotDeletable`] for a folder of the models directory; a model in use.
    pub async fn delete_model(&self, scope: &Scope, id: &str) -> Result<(), SchedulerError> {
        if self.shared.find_folder(id).await.is_some() {
            return Err(SchedulerError::NotDeletable(id.to_owned()));
        }
        match self.shared.store.delete_model(scope, id).await? {
            true => Ok(()),
            false => Err(SchedulerError::NoModel(id.to_owned())),
        }
    }
}

impl Model {
    fn tuned(id: String, created: i64) -> Self {
        Self {
            id,
            created,
            owned_by: "user".to_owned(),
        }
    }

    fn folder(id: String, dir: &Path) -> Self {
        let modified = dir.metadata().and_then(|metadata| metadata.modified()).ok();
        let since = modified.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        Self {
            id,
            created: since.map_or(0, |since| since.as_secs() as i64),
            owned_by: "system".to_owned(),
        }
    }
}

/// The folder of a model by its name, `NAME` or `ORG/NAME`. No other text becomes a path. It waits for the disk.
pub(crate) fn find_folder(models_dir: &Path, name: &str) -> Option<PathBuf> {
    let parts: Vec<_> = name.split('/').collect();
    if parts.len() > 2 || !parts.iter().all(|part| is_name(part)) {
        return None;
    }
    let dir = models_dir.join(name);
    dir.is_dir().then_some(dir)
}

fn is_name(part: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !part.is_empty() && part.len() <= 96 && !part.starts_with('.') && part.chars().all(legal)
}

/// Lists the folders of the models directory that look like models, by name.
///
/// # Errors
/// When the directory cannot be read.
pub fn base_models(models_dir: &Path) -> io::Result<Vec<Model>> {
    let mut models = Vec::new();
    for (name, dir) in folders(models_dir)? {
        if is_model(&dir) {
            models.push(Model::folder(name, &dir));
            continue;
        }
        // One folder that cannot be read must not hide the others.
        let inner = folders(&dir).unwrap_or_else(|error| {
            tracing::warn!(dir = %dir.display(), %error, "a folder of the models directory cannot be read");
            Vec::new()
        });
        for (inner, dir) in inner {
            if is_model(&dir) {
                models.push(Model::folder(format!("{name}/{inner}"), &dir));
            }
        }
    }
    models.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(models)
}

fn is_model(dir: &Path) -> bool {
    dir.join("config.json").is_file()
}

fn folders(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().into_string().unwrap_or_default();
        if is_name(&name) && entry.path().is_dir() {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_become_paths() {
        let dir = tempfile::tempdir().unwrap();
        let models = dir.path().join("models");
        for folder in [
            "models/base",
            "models/org/small",
            "models/.hidden",
            "secret",
        ] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
            fs::write(dir.path().join(folder).join("config.json"), "{}").unwrap();
        }
        assert_eq!(find_folder(&models, "base"), Some(models.join("base")));
        assert_eq!(
            find_folder(&models, "org/small"),
            Some(models.join("org/small"))
        );
        let secret = dir.path().join("secret").display().to_string();
        for name in [
            "",
            ".",
            "..",
            "/",
            "base/",
            "/base",
            "../secret",
            "base/../../secret",
            "org/../base",
            "base/..",
            "..\\secret",
            "org\\small",
            ".hidden",
            "base/.",
            "a/b/c",
            "base\0",
            "%2e%2e/secret",
            &secret,
        ] {
            assert_eq!(find_folder(&models, name), None, "{name}");
        }
        let listed: Vec<_> = base_models(&models)
            .unwrap()
            .into_iter()
            .map(|m| m.id)
            .collect();
        assert_eq!(listed, ["base", "org/small"]);
    }
}
