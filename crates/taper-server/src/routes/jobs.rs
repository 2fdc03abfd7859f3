use axum::{Json, extract::State};
use taper_core::{JobChange, JobSpec};
use taper_store::{JobFilter, MetadataFilter, NewJob};
use utoipa::IntoParams;

use crate::{
    auth::Caller,
    error::ApiError,
    extract::{JsonBody, Path},
    once::Marks,
    query::{FromPairs, Pairs, Query},
    state::AppState,
    wire::{ChangeFineTuningJob, CreateFineTuningJob, DeletedJob, FineTuningJob, List, Submitted},
};

/// Create a fine-tuning job
///
/// The answer comes after the job is kept; it then is validated, waits for a worker and runs. With `dry_run` nothing is kept: the
/// answer is the job's plan, or the error that the job would get.
#[utoipa::path(
    post,
    path = "/v1/fine_tuning/jobs",
    tag = "fine-tuning",
    params(Submission),
    request_body(content = CreateFineTuningJob, example = json!({
        "model": "all-MiniLM-L6-v2", "training_file": "file-019abc", "suffix": "reviews",
        "tuning": {"type": "lora", "r": 8}, "training": {"num_train_epochs": 1, "eval_split": 0.1},
    })),
    responses((status = 200, description = "The job, or with `dry_run` its plan", body = Submitted)),
)]
pub(crate) async fn create_job(
    State(state): State<AppState>,
    caller: Caller,
    Query(query): Query<Submission>,
    Marks(once): Marks,
    JsonBody(body): JsonBody,
) -> Result<Json<Submitted>, ApiError> {
    if query.dry_run {
        let spec = JobSpec::parse(&body)?;
        let plan = state.scheduler.plan(&caller.scope.home(), spec).await?;
        return Ok(Json(Submitted::Plan(Box::new(plan.into()))));
    }
    let once = once.asking(&[&body.to_string()]);
    if let Some(id) = state.store.made_before(&once).await?
        && let Some(job) = state.store.job(&caller.scope, &id).await?
    {
        return Ok(Json(job.into()));
    }
    let new = NewJob {
        spec: JobSpec::parse(&body)?,
        project: caller.scope.home(),
        once: Some(once),
    };
    Ok(Json(state.scheduler.submit(new).await?.into()))
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Submission {
    /// Answer with the plan and keep nothing.
    #[param(value_type = Option<bool>)]
    pub(super) dry_run: bool,
}

impl FromPairs for Submission {
    fn read(pairs: &mut Pairs) -> Self {
        let words = [("true", true), ("false", false)];
        Self {
            dry_run: pairs.choice("dry_run", &words).unwrap_or(false),
        }
    }
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct JobPage {
    /// Id of the last element of the page before.
    after: Option<String>,
    /// Most elements of the page; 20 unless told.
    #[param(minimum = 1, maximum = 10_000, value_type = Option<u32>)]
    limit: u32,
    /// Only jobs whose metadata hold these pairs, written `metadata[key]=value`; `metadata=null` = only jobs without metadata.
    #[param(value_type = Option<std::collections::HashMap<String, String>>, style = DeepObject, explode)]
    metadata: MetadataFilter,
}

impl FromPairs for JobPage {
    fn read(pairs: &mut Pairs) -> Self {
        Self {
            metadata: pairs.metadata(),
            after: pairs.text("after"),
            limit: pairs.limit(20),
        }
    }
}

/// List fine-tuning jobs
///
/// Newest first.
#[utoipa::path(
    get,
    path = "/v1/fine_tuning/jobs",
    tag = "fine-tuning",
    params(JobPage),
    responses((status = 200, description = "A page of jobs", body = List<FineTuningJob>)),
)]
pub(crate) async fn list_jobs(
    State(state): State<AppState>,
    caller: Caller,
    Query(query): Query<JobPage>,
) -> Result<Json<List<FineTuningJob>>, ApiError> {
    let filter = JobFilter {
        after: query.after,
        limit: query.limit,
        metadata: query.metadata,
    };
    let page = state.store.jobs(&caller.scope, &filter).await?;
    let jobs = page.data.into_iter().map(FineTuningJob::from).collect();
    Ok(Json(List::page(jobs, page.has_more, |job| &job.id)))
}

/// Find a fine-tuning job
#[utoipa::path(
    get,
    path = "/v1/fine_tuning/jobs/{id}",
    tag = "fine-tuning",
    params(("id" = String, Path, description = "Id of the job")),
    responses((status = 200, description = "The job", body = FineTuningJob)),
)]
pub(crate) async fn find_job(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<FineTuningJob>, ApiError> {
    Ok(Json(state.job(&caller.scope, &id).await?.into()))
}

/// Cancel a fine-tuning job
///
/// For a running job the answer waits up to two seconds for the worker and shows the state of that moment. Cancelling a cancelled
/// job is no error.
#[utoipa::path(
    post,
    path = "/v1/fine_tuning/jobs/{id}/cancel",
    tag = "fine-tuning",
    params(("id" = String, Path, description = "Id of the job")),
    responses((status = 200, description = "The job", body = FineTuningJob)),
)]
pub(crate) async fn cancel_job(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<FineTuningJob>, ApiError> {
    Ok(Json(
        state.scheduler.cancel(&caller.scope, &id).await?.into(),
    ))
}

/// Pause a fine-tuning job
///
/// A running job leaves a checkpoint and its worker; one whose files are being validated is paused after that. The answer waits up to
/// two seconds for it and shows the state of that moment. Pausing a paused job is no error; one that waits at a rung of its experiment
/// then waits until it is resumed.
#[utoipa::path(
    post,
    path = "/v1/fine_tuning/jobs/{id}/pause",
    tag = "fine-tuning",
    params(("id" = String, Path, description = "Id of the job")),
    responses((status = 200, description = "The job", body = FineTuningJob)),
)]
pub(crate) async fn pause_job(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<FineTuningJob>, ApiError> {
    Ok(Json(
        state.scheduler.pause(&caller.scope, &id).await?.into(),
    ))
}

/// Resume a paused fine-tuning job
///
/// It goes back into the queue, and on from its checkpoint exactly as if it had not been paused.
#[utoipa::path(
    post,
    path = "/v1/fine_tuning/jobs/{id}/resume",
    tag = "fine-tuning",
    params(("id" = String, Path, description = "Id of the job")),
    responses((status = 200, description = "The job", body = FineTuningJob)),
)]
pub(crate) async fn resume_job(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<FineTuningJob>, ApiError> {
    Ok(Json(
        state.scheduler.resume(&caller.scope, &id).await?.into(),
    ))
}

/// Retry a failed fine-tuning job
///
/// It goes back into the queue for a new attempt from its last whole checkpoint; a job whose validation failed is validated again.
#[utoipa::path(
    post,
    path = "/v1/fine_tuning/jobs/{id}/retry",
    tag = "fine-tuning",
    params(("id" = String, Path, description = "Id of the job")),
    responses((status = 200, description = "The job", body = FineTuningJob)),
)]
pub(crate) async fn retry_job(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<FineTuningJob>, ApiError> {
    Ok(Json(
        state.scheduler.retry(&caller.scope, &id).await?.into(),
    ))
}

/// Change a fine-tuning job
///
/// Of two queued jobs that with the higher priority runs first, of equals the older one. A running job is not interrupted.
#[utoipa::path(
    patch,
    path = "/v1/fine_tuning/jobs/{id}",
    tag = "fine-tuning",
    params(("id" = String, Path, description = "Id of the job")),
    request_body = ChangeFineTuningJob,
    responses((status = 200, description = "The job", body = FineTuningJob)),
)]
pub(crate) async fn change_job(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    JsonBody(body): JsonBody,
) -> Result<Json<FineTuningJob>, ApiError> {
    let JobChange { priority } = JobChange::parse(&body)?;
    let job = state.scheduler.prioritize(&caller.scope, &id, priority);
    Ok(Json(job.await?.into()))
}

/// Delete a fine-tuning job
///
/// Only one that has ended, and from whose model or checkpoints no open job starts. It goes with its model, its checkpoints, its events
/// and its result files; the files it was trained on stay.
#[utoipa::path(
    delete,
    path = "/v1/fine_tuning/jobs/{id}",
    tag = "fine-tuning",
    params(("id" = String, Path, description = "Id of the job")),
    responses((status = 200, description = "It is gone", body = DeletedJob)),
)]
pub(crate) async fn delete_job(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<DeletedJob>, ApiError> {
    state.scheduler.delete(&caller.scope, &id).await?;
    Ok(Json(DeletedJob {
        id,
        object: "fine_tuning.job",
        deleted: true,
    }))
}
