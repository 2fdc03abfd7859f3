use axum::{Json, extract::State};
use utoipa::IntoParams;

use crate::{
    middleware::auth::Caller,
    state::AppState,
    wire::{
        FineTuningCheckpoint, FineTuningEvent, List,
        error::{ApiError, readable},
        extract::Path,
        query::{FromPairs, Pairs, Query},
    },
};

/// The part of a list that is wanted.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventPage {
    /// Id of the last element of the page before.
    pub(super) after: Option<String>,
    /// Most elements of the page; 20 unless told.
    #[param(minimum = 1, maximum = 10_000, value_type = Option<u32>)]
    pub(super) limit: u32,
}

impl FromPairs for EventPage {
    fn read(pairs: &mut Pairs) -> Self {
        Self {
            after: pairs.text("after"),
            limit: pairs.limit(20),
        }
    }
}

/// List a job's events
///
/// Newest first.
#[utoipa::path(
    get,
    path = "/v1/fine_tuning/jobs/{id}/events",
    tag = "fine-tuning",
    params(("id" = String, Path, description = "Id of the job"), EventPage),
    responses((status = 200, description = "A page of events", body = List<FineTuningEvent>)),
)]
pub(crate) async fn list_events(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<EventPage>,
) -> Result<Json<List<FineTuningEvent>>, ApiError> {
    let job = state.job(&caller.scope, &id).await?;
    let after = query.after.as_deref().map(row_of).transpose()?;
    let page = state.store.events_page(&job, after, query.limit).await?;
    let events = page.data.iter().map(FineTuningEvent::from).collect();
    Ok(Json(List::page(events, page.has_more, |event| &event.id)))
}

pub(super) fn row_of(id: &str) -> Result<i64, ApiError> {
    FineTuningEvent::row_of(id).ok_or_else(|| {
        let message = format!("'after' names nothing in this list: {}", readable(id));
        ApiError::invalid("after", message)
    })
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct CheckpointPage {
    /// Id of the last element of the page before.
    after: Option<String>,
    /// Most elements of the page; 10 unless told.
    #[param(minimum = 1, maximum = 10_000, value_type = Option<u32>)]
    limit: u32,
}

impl FromPairs for CheckpointPage {
    fn read(pairs: &mut Pairs) -> Self {
        Self {
            after: pairs.text("after"),
            limit: pairs.limit(10),
        }
    }
}

/// List a job's checkpoints
///
/// Highest step first.
#[utoipa::path(
    get,
    path = "/v1/fine_tuning/jobs/{id}/checkpoints",
    tag = "fine-tuning",
    params(("id" = String, Path, description = "Id of the job"), CheckpointPage),
    responses((status = 200, description = "A page of checkpoints", body = List<FineTuningCheckpoint>)),
)]
pub(crate) async fn list_checkpoints(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<CheckpointPage>,
) -> Result<Json<List<FineTuningCheckpoint>>, ApiError> {
    let job = state.job(&caller.scope, &id).await?;
    let after = query.after.as_deref();
    let page = state.store.checkpoints(&job, after, query.limit).await?;
    let checkpoints = page
        .data
        .into_iter()
        .map(|checkpoint| FineTuningCheckpoint::new(&job, checkpoint))
        .collect();
    Ok(Json(List::page(checkpoints, page.has_more, |checkpoint| {
        &checkpoint.id
    })))
}
