use crate::{Runner, RunnerError};

/// A model that can be named: a folder of the models directory, or what a succeeded job has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    pub id: String,
    /// Unix seconds.
    pub created: i64,
    /// `system` for a folder, `user` for a tuned model.
    pub owned_by: String,
}

impl Runner {
    /// Lists all models: folders by name, then tuned ones, newest first.
    pub async fn models(&self) -> Result<Vec<Model>, RunnerError> {
        unimplemented!()
    }

    /// Finds a model by its id.
    ///
    /// # Errors
    /// [`RunnerError::NotFound`] when there is none of that name.
    pub async fn model(&self, id: &str) -> Result<Model, RunnerError> {
        unimplemented!("{id}")
    }
}
