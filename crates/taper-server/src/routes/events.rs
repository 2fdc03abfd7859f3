use axum::Json;

use super::named::{Answer, Named};
use crate::wire::{
    FineTuningCheckpoint, FineTuningEvent, List, error::ApiError, paging::Paged, query::Query,
};

/// List a job's events
///
/// Newest first.
#[utoipa::path(
    get,
    path = "/v1/fine_tuning/jobs/{id}/events",
    tag = "fine-tuning",
    params(("id" = String, Path, description = "Id of the job"), Paged<20>),
    responses((status = 200, description = "A page of events", body = List<FineTuningEvent>)),
)]
pub(crate) async fn list_events(
    named: Named,
    Query(query): Query<Paged<20>>,
) -> Answer<List<FineTuningEvent>> {
    let job = named.job().await?;
    let after = row_of(query.after.as_deref())?;
    let page = named
        .state
        .store
        .events_page(&job, after, query.limit)
        .await?;
    Ok(Json(List::page(
        page,
        |event| FineTuningEvent::from(&event),
        |event| &event.id,
    )))
}

/// The row behind the id of an event that a page goes on after.
pub(super) fn row_of(after: Option<&str>) -> Result<Option<i64>, ApiError> {
    let Some(id) = after else { return Ok(None) };
    let row = FineTuningEvent::row_of(id);
    row.map(Some).ok_or_else(|| ApiError::unknown_cursor(id))
}

/// List a job's checkpoints
///
/// Highest step first.
#[utoipa::path(
    get,
    path = "/v1/fine_tuning/jobs/{id}/checkpoints",
    tag = "fine-tuning",
    params(("id" = String, Path, description = "Id of the job"), Paged<10>),
    responses((status = 200, description = "A page of checkpoints", body = List<FineTuningCheckpoint>)),
)]
pub(crate) async fn list_checkpoints(
    named: Named,
    Query(query): Query<Paged<10>>,
) -> Answer<List<FineTuningCheckpoint>> {
    let job = named.job().await?;
    let after = query.after.as_deref();
    let page = named
        .state
        .store
        .checkpoints(&job, after, query.limit)
        .await?;
    let object = |checkpoint| FineTuningCheckpoint::new(&job, checkpoint);
    Ok(Json(List::page(page, object, |checkpoint| &checkpoint.id)))
}
