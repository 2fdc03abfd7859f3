use axum::{Json, extract::State};
use taper_core::JobSpec;
use taper_store::{JobFilter, MetadataFilter, NewJob};
use utoipa::IntoParams;

use crate::{
    error::ApiError,
    extract::{JsonBody, Path},
    once::Marks,
    query::{FromPairs, Pairs, Query},
    state::AppState,
    wire::{CreateFineTuningJob, FineTuningJob, List},
};

/// Create a fine-tuning job
///
/// The answer comes after the job is kept; it then is validated, waits for a worker and runs.
#[utoipa::path(
    post,
    path = "/v1/fine_tuning/jobs",
    tag = "fine-tuning",
    request_body(content = CreateFineTuningJob, example = json!({
        "model": "all-MiniLM-L6-v2", "training_file": "file-019abc", "suffix": "reviews",
        "tuning": {"type": "lora", "r": 8}, "training": {"num_train_epochs": 1, "eval_split": 0.1},
    })),
    responses((status = 200, description = "The job", body = FineTuningJob)),
)]
pub(crate) async fn create_job(
    State(state): State<AppState>,
    Marks(once): Marks,
    JsonBody(body): JsonBody,
) -> Result<Json<FineTuningJob>, ApiError> {
    let once = once.asking(&[&body.to_string()]);
    if let Some(id) = state.store.made_before(&once).await?
        && let Some(job) = state.store.job(&id).await?
    {
        return Ok(Json(job.into()));
    }
    let (spec, once) = (JobSpec::parse(&body)?, Some(once));
    Ok(Json(
        state.runner.submit(NewJob { spec, once }).await?.into(),
    ))
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
    Query(query): Query<JobPage>,
) -> Result<Json<List<FineTuningJob>>, ApiError> {
    let filter = JobFilter {
        after: query.after,
        limit: query.limit,
        metadata: query.metadata,
    };
    let page = state.store.jobs(&filter).await?;
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
    Path(id): Path<String>,
) -> Result<Json<FineTuningJob>, ApiError> {
    Ok(Json(state.job(&id).await?.into()))
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
    Path(id): Path<String>,
) -> Result<Json<FineTuningJob>, ApiError> {
    Ok(Json(state.runner.cancel(&id).await?.into()))
}
