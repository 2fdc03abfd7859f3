use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use taper_core::ExperimentRequest;
use utoipa::IntoParams;

use super::{
    create::Create,
    events,
    jobs::Submission,
    named::{Answer, Named, answer},
    streams,
};
use crate::{
    middleware::auth::Caller,
    state::AppState,
    wire::{
        CreateExperiment, DeletedExperiment, ExperimentObject, ExperimentTable, List,
        StreamMessage, StreamedEvent, SubmittedExperiment,
        error::ApiError,
        extract::JsonBody,
        paging::Paged,
        query::{FromPairs, Pairs, Query},
    },
};

/// Most experiments of a page: each comes with its table, and that of up to 200 runs.
const MAX_PAGE: u32 = 100;
/// Bytes of the body: what it says may stand in each of 200 configurations.
const MAX_BODY_BYTES: usize = 64 << 10;

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
    Query(query): Query<Submission>,
    new: Create<JsonBody<MAX_BODY_BYTES>>,
) -> Answer<SubmittedExperiment> {
    let (experiments, scope) = (&state.experiments, &new.caller.scope);
    if query.dry_run {
        let request = parsed(new.body.0).await?;
        return answer(experiments.plan(&scope.home(), request).await?);
    }
    let find = async |id: String| Ok(experiments.find(scope, &id).await.ok());
    if let Some(view) = new.made_before(&state, find).await? {
        return answer(view);
    }
    let project = new.project();
    let request = parsed(new.body.0).await?;
    answer(experiments.submit(project, request, new.once).await?)
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
    params(Paged<20>),
    responses((status = 200, description = "A page of experiments", body = List<ExperimentObject>)),
)]
pub(crate) async fn list_experiments(
    State(state): State<AppState>,
    caller: Caller,
    Query(query): Query<Paged<20>>,
) -> Answer<List<ExperimentObject>> {
    let (after, limit) = (query.after.as_deref(), query.limit.min(MAX_PAGE));
    let page = state.experiments.list(&caller.scope, after, limit).await?;
    Ok(Json(List::page(page, ExperimentObject::from, |it| &it.id)))
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
pub(crate) async fn find_experiment(experiment: Named) -> Answer<ExperimentObject> {
    let experiments = &experiment.state.experiments;
    answer(experiments.find(experiment.scope(), &experiment.id).await?)
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
pub(crate) async fn cancel_experiment(experiment: Named) -> Answer<ExperimentObject> {
    let experiments = &experiment.state.experiments;
    answer(
        experiments
            .cancel(experiment.scope(), &experiment.id)
            .await?,
    )
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
pub(crate) async fn pause_experiment(experiment: Named) -> Answer<ExperimentObject> {
    let experiments = &experiment.state.experiments;
    answer(
        experiments
            .pause(experiment.scope(), &experiment.id)
            .await?,
    )
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
pub(crate) async fn resume_experiment(experiment: Named) -> Answer<ExperimentObject> {
    let experiments = &experiment.state.experiments;
    answer(
        experiments
            .resume(experiment.scope(), &experiment.id)
            .await?,
    )
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
pub(crate) async fn delete_experiment(experiment: Named) -> Answer<DeletedExperiment> {
    let experiments = &experiment.state.experiments;
    experiments
        .delete(experiment.scope(), &experiment.id)
        .await?;
    Ok(Json(DeletedExperiment {
        id: experiment.id,
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
    params(("id" = String, Path, description = "Id of the experiment"), Paged<20>),
    responses((status = 200, description = "A page of events", body = List<StreamedEvent>)),
)]
pub(crate) async fn list_experiment_events(
    named: Named,
    Query(query): Query<Paged<20>>,
) -> Answer<List<StreamedEvent>> {
    let experiment = named.experiment().await?;
    let after = events::row_of(query.after.as_deref())?;
    let store = &named.state.store;
    let page = store
        .experiment_events(&experiment, after, query.limit)
        .await?;
    Ok(Json(List::page(
        page,
        |event| StreamedEvent::from(&event),
        |it| &it.event.id,
    )))
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
    named: Named,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let experiment = named.experiment().await?;
    let jobs = named.state.store.experiment_jobs(&experiment).await?;
    let jobs = jobs.into_iter().map(|job| job.id).collect();
    streams::open_from_now(&named.state, named.caller, Some(jobs), &headers).await
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
    experiment: Named,
    Query(query): Query<TableQuery>,
) -> Result<Response, ApiError> {
    let experiments = &experiment.state.experiments;
    let view = experiments
        .find_whole(experiment.scope(), &experiment.id)
        .await?;
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
