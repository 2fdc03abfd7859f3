use axum::{Json, extract::State};

use crate::{
    auth::Caller,
    error::ApiError,
    extract::Path,
    state::AppState,
    wire::{DeletedModel, List, ModelObject},
};

/// List models
///
/// Folders of the models directory, which are everybody's, then what the project's jobs have made.
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "models",
    responses((status = 200, description = "All models", body = List<ModelObject>)),
)]
pub(crate) async fn list_models(
    State(state): State<AppState>,
    caller: Caller,
) -> Result<Json<List<ModelObject>>, ApiError> {
    let models = state.scheduler.models(&caller.scope).await?;
    let models = models.into_iter().map(ModelObject::from).collect();
    Ok(Json(List::whole(models)))
}

/// Find a model
#[utoipa::path(
    get,
    path = "/v1/models/{*id}",
    tag = "models",
    params(("id" = String, Path, description = "Id of the model; a slash in it may stand as it is or as %2F")),
    responses((status = 200, description = "The model", body = ModelObject)),
)]
pub(crate) async fn find_model(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<ModelObject>, ApiError> {
    Ok(Json(
        state.scheduler.model(&caller.scope, &id).await?.into(),
    ))
}

/// Delete a tuned model
///
/// The job that made it stays, without its model. Refused while a job that has not ended starts from it, and for folders of the models
/// directory.
#[utoipa::path(
    delete,
    path = "/v1/models/{*id}",
    tag = "models",
    params(("id" = String, Path, description = "Id of the model; a slash in it may stand as it is or as %2F")),
    responses((status = 200, description = "It is gone", body = DeletedModel)),
)]
pub(crate) async fn delete_model(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<DeletedModel>, ApiError> {
    state.scheduler.delete_model(&caller.scope, &id).await?;
    Ok(Json(DeletedModel {
        id,
        object: "model",
        deleted: true,
    }))
}
