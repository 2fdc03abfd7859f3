use serde::Serialize;
use taper_scheduler::Model;
use utoipa::ToSchema;

/// A model that a job can start from or has made.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelObject {
    /// The name of a folder, or `ft:…` for a tuned model.
    pub id: String,
    /// Always `model`.
    pub object: &'static str,
    /// Unix seconds.
    pub created: i64,
    /// `system` for a folder of the models directory, `user` for a tuned model.
    pub owned_by: String,
}

impl From<Model> for ModelObject {
    fn from(model: Model) -> Self {
        Self {
            id: model.id,
            object: "model",
            created: model.created,
            owned_by: model.owned_by,
        }
    }
}

/// The answer to the deletion of a model.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeletedModel {
    pub id: String,
    /// Always `model`.
    pub object: &'static str,
    /// Always true.
    pub deleted: bool,
}
