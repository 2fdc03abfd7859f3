use axum::{Json, extract::State};

use super::named::{Answer, Named, answer};
use crate::{
    middleware::auth::Caller,
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
) -> Answer<List<ModelObject>> {
    Ok(Json(List::whole(
        state.scheduler.models(&caller.scope).await?,
    )))
}

/// Find a model
#[utoipa::path(
    get,
    path = "/v1/models/{*id}",
    tag = "models",
    params(("id" = String, Path, description = "Id of the model; a slash in it may stand as it is or as %2F")),
    responses((status = 200, description = "The model", body = ModelObject)),
)]
pub(crate) async fn find_model(model: Named) -> Answer<ModelObject> {
    answer(
        model
            .state
            .scheduler
            .model(model.scope(), &model.id)
            .await?,
    )
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
pub(crate) async fn delete_model(model: Named) -> Answer<DeletedModel> {
    let scheduler = &model.state.scheduler;
    scheduler.delete_model(model.scope(), &model.id).await?;
    Ok(Json(DeletedModel {
        id: model.id,
        object: "model",
        deleted: true,
    }))
}
