use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use taper_core::ExperimentRequest;
use utoipa::IntoParams;

use super::{events, events::EventPage, jobs::Submission, streams};
use crate::{
    auth::Caller,
    error::ApiError,
    extract::{JsonBody, Path},
    once::Marks,
    query::{FromPairs, Pairs, Query},
    state::AppState,
    wire::{
        CreateExperiment, DeletedExperiment, ExperimentObject, ExperimentTable, List,
        StreamMessage, StreamedEvent, SubmittedExperiment,
    },
};

/// Most experiments of a page: each comes with its table, and that of up to 200 runs.
const LONGEST_PAGE: u32 = 100;
/// Bytes of the body: what it says may stand in each of 200 configurations.
const LONGEST_BODY: usize = 64 << 10;

/// Create an experiment
///
/// Every configuration becomes one job per seed, all of them in the queue at once. With `dry_run` nothing is kept: the answer is the list of
/// configurations, or the error that the experiment would get. The body has at most 64 KiB.
#[utoipa::path(
    post,
    path = "/v1/experiments",
    tag = "experiments",
    params(Submission),
    request_body(content = CreateExperiment, example = json!({
        "model": "all-MiniLM-L6-v2", "training_file": "file-019abc", "training": {"num_train_epochs": 1, "eval_split": 0.1},
        "methods": "all", "seeds": [1, 2, 3],
    })),
    responses((status = 200, description = "The experiment, or with `dry_run` its plan", body = SubmittedExperiment)),
)]
pub(crate) async fn create_experiment(
    State(state): State<AppState>,
    caller: Caller,
    Query(query): Query<Submission>,
    Marks(once): Marks,
    JsonBody(body): JsonBody<LONGEST_BODY>,
) -> Result<Json<SubmittedExperiment>, ApiError> {
    if query.dry_run {
        let (request, project) = (parsed(body).await?, caller.scope.home());
        let plan = state.scheduler.plan_experiment(&project, request);
        return Ok(Json(SubmittedExperiment::Plan(plan.await?.into())));
    }
    let once = once.asking(&[&body.to_string()]);
    let made = match state.store.made_before(&once).await? {
        Some(id) => state.scheduler.experiment(&caller.scope, &id).await.ok(),
        None => None,
    };
    let view = match made {
        Some(view) => view,
        None => {
            let request = parsed(body).await?;
            let project = caller.scope.home();
            let submitted = state.scheduler.submit_experiment(project, request, once);
            submitted.await?
        }
    };
    let object = Box::new(ExperimentObject::from(view));
    Ok(Json(SubmittedExperiment::Experiment(object)))
}

/// Each of its configurations is read as a job is, which takes longer than a thread of the server may be held.
async fn parsed(body: Value) -> Result<ExperimentRequest, ApiError> {
    let parsed = tokio::task::spawn_blocking(move || ExperimentRequest::parse(&body));
    Ok(parsed.await.map_err(ApiError::internal)??)
}

/// List experiments
///
/// Newest first, at most 100 a page.
#[utoipa::path(
    get,
    path = "/v1/experiments",
    tag = "experiments",
    params(EventPage),
    responses((status = 200, description = "A page of experiments", body = List<ExperimentObject>)),
)]
pub(crate) async fn list_experiments(
    State(state): State<AppState>,
    caller: Caller,
    Query(query): Query<EventPage>,
) -> Result<Json<List<ExperimentObject>>, ApiError> {
    let after = query.after.as_deref();
    let page = state
        .scheduler
        .experiments(&caller.scope, after, query.limit.min(LONGEST_PAGE))
        .await?;
    let data = page.data.into_iter().map(ExperimentObject::from).collect();
    Ok(Json(List::page(data, page.has_more, |it| &it.id)))
}

/// Find an experiment
///
/// Intervals that take long to make come with a later answer, and `recommendation` with the last of them.
#[utoipa::path(
    get,
    path = "/v1/experiments/{id}",
    tag = "experiments",
    params(("id" = String, Path, description = "Id of the experiment")),
    responses((status = 200, description = "The experiment", body = ExperimentObject)),
)]
pub(crate) async fn find_experiment(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<ExperimentObject>, ApiError> {
    Ok(Json(
        state.scheduler.experiment(&caller.scope, &id).await?.into(),
    ))
}

/// Cancel an experiment
///
/// All of its jobs that have not ended are cancelled. For running ones the answer waits up to two seconds and shows the state of that
/// moment.
#[utoipa::path(
    post,
    path = "/v1/experiments/{id}/cancel",
    tag = "experiments",
    params(("id" = String, Path, description = "Id of the experiment")),
    responses((status = 200, description = "The experiment", body = ExperimentObject)),
)]
pub(crate) async fn cancel_experiment(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<ExperimentObject>, ApiError> {
    Ok(Json(
        state
            .scheduler
            .cancel_experiment(&caller.scope, &id)
            .await?
            .into(),
    ))
}

/// Pause an experiment
///
/// All of its jobs that have not ended are paused, and what waits at a rung is not decided upon.
#[utoipa::path(
    post,
    path = "/v1/experiments/{id}/pause",
    tag = "experiments",
    params(("id" = String, Path, description = "Id of the experiment")),
    responses((status = 200, description = "The experiment", body = ExperimentObject)),
)]
pub(crate) async fn pause_experiment(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<ExperimentObject>, ApiError> {
    Ok(Json(
        state
            .scheduler
            .pause_experiment(&caller.scope, &id)
            .await?
            .into(),
    ))
}

/// Resume a paused experiment
///
/// Its paused jobs go back into the queue, and on from their checkpoints exactly as if they had not been paused.
#[utoipa::path(
    post,
    path = "/v1/experiments/{id}/resume",
    tag = "experiments",
    params(("id" = String, Path, description = "Id of the experiment")),
    responses((status = 200, description = "The experiment", body = ExperimentObject)),
)]
pub(crate) async fn resume_experiment(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<ExperimentObject>, ApiError> {
    Ok(Json(
        state
            .scheduler
            .resume_experiment(&caller.scope, &id)
            .await?
            .into(),
    ))
}

/// Delete an experiment
///
/// Only one of which all jobs have ended. It goes with its jobs, their models, checkpoints, events and result files.
#[utoipa::path(
    delete,
    path = "/v1/experiments/{id}",
    tag = "experiments",
    params(("id" = String, Path, description = "Id of the experiment")),
    responses((status = 200, description = "It is gone", body = DeletedExperiment)),
)]
pub(crate) async fn delete_experiment(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<DeletedExperiment>, ApiError> {
    state
        .scheduler
        .delete_experiment(&caller.scope, &id)
        .await?;
    Ok(Json(DeletedExperiment {
        id,
        object: "experiment",
        deleted: true,
    }))
}

/// List an experiment's events
///
/// Those of all its jobs, newest first.
#[utoipa::path(
    get,
    path = "/v1/experiments/{id}/events",
    tag = "experiments",
    params(("id" = String, Path, description = "Id of the experiment"), EventPage),
    responses((status = 200, description = "A page of events", body = List<StreamedEvent>)),
)]
pub(crate) async fn list_experiment_events(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<EventPage>,
) -> Result<Json<List<StreamedEvent>>, ApiError> {
    let experiment = state.experiment(&caller.scope, &id).await?;
    let after = query.after.as_deref().map(events::row_of).transpose()?;
    let page = state
        .store
        .experiment_events(&experiment, after, query.limit);
    let page = page.await?;
    let events = page.data.iter().map(StreamedEvent::from).collect();
    Ok(Json(List::page(events, page.has_more, |it| &it.event.id)))
}

/// Stream an experiment's events
///
/// Those of all its jobs, as the stream of all jobs carries them.
#[utoipa::path(
    get,
    path = "/v1/experiments/{id}/events/stream",
    tag = "experiments",
    params(
        ("id" = String, Path, description = "Id of the experiment"),
        ("Last-Event-ID" = Option<String>, Header, description = "Go on after this number. One that names no event is answered with `event: reset`"),
    ),
    responses((status = 200, description = "The stream", body = StreamMessage, content_type = "text/event-stream")),
)]
pub(crate) async fn stream_experiment_events(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let experiment = state.experiment(&caller.scope, &id).await?;
    let jobs = state.store.experiment_jobs(&experiment).await?;
    let jobs = jobs.into_iter().map(|job| job.id).collect();
    streams::open_from_now(&state, caller, Some(jobs), &headers).await
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct TableQuery {
    /// `json` unless told.
    #[param(value_type = Option<TableFormat>, inline)]
    format: TableFormat,
}

/// The forms of the table.
#[derive(Clone, Copy, utoipa::ToSchema)]
#[schema(rename_all = "lowercase")]
enum TableFormat {
    Json,
    Csv,
    Markdown,
}

impl FromPairs for TableQuery {
    fn read(pairs: &mut Pairs) -> Self {
        let words = [
            ("json", TableFormat::Json),
            ("csv", TableFormat::Csv),
            ("markdown", TableFormat::Markdown),
        ];
        Self {
            format: pairs.choice("format", &words).unwrap_or(TableFormat::Json),
        }
    }
}

/// Download an experiment's table
///
/// The comparison as JSON, as CSV or as Markdown, with all intervals: the answer waits for those that are being made.
#[utoipa::path(
    get,
    path = "/v1/experiments/{id}/table",
    tag = "experiments",
    params(("id" = String, Path, description = "Id of the experiment"), TableQuery),
    responses((status = 200, description = "The table", content(
        (ExperimentTable = "application/json"),
        (String = "text/csv"),
        (String = "text/markdown"),
    ))),
)]
pub(crate) async fn find_table(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<TableQuery>,
) -> Result<Response, ApiError> {
    let view = state.scheduler.whole_experiment(&caller.scope, &id).await?;
    let (kind, text) = match query.format {
        TableFormat::Json => return Ok(Json(ExperimentTable::from(view)).into_response()),
        TableFormat::Csv => ("text/csv; charset=utf-8", view.comparison.to_csv()),
        TableFormat::Markdown => {
            let text = view.comparison.to_markdown(&view.record.spec);
            ("text/markdown; charset=utf-8", text)
        }
    };
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
