use axum::Json;

use crate::wire::FineTuningSettings;

/// List methods and settings
///
/// What `tuning` and `training` of a job may say: every method and setting with its default, its range and a sentence, from which a client
/// can make a form.
#[utoipa::path(
    get,
    path = "/v1/fine_tuning/settings",
    tag = "fine-tuning",
    responses((status = 200, description = "Methods, settings and tasks", body = FineTuningSettings)),
)]
pub(crate) async fn list_settings() -> Json<FineTuningSettings> {
    Json(FineTuningSettings::all())
}
