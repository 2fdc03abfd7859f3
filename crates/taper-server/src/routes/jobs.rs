use axum::{Json, extract::State};
use taper_core::{JobChange, JobSpec};
use taper_store::{JobFilter, MetadataFilter, NewJob};
use utoipa::IntoParams;

use super::{
    create::Create,
    named::{Answer, Named, answer},
};
use crate::{
    middleware::auth::Caller,
    state::AppState,
    wire::{
        ChangeFineTuningJob, CreateFineTuningJob, DeletedJob, FineTuningJob, List, Submitted,
        extract::JsonBody,
        paging::Paged,
        query::{FromPairs, Pairs, Query},
    },
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
    Query(query): Query<Submission>,
    new: Create<JsonBody>,
) -> Answer<Submitted> {
    if query.dry_run {
        let spec = JobSpec::parse(&new.body.0)?;
        let plan = state.scheduler.plan(&new.project(), spec).await?;
        return answer(plan);
    }
    let scope = &new.caller.scope;
    let find = async |id: String| Ok(state.store.job(scope, &id).await?);
    if let Some(job) = new.made_before(&state, find).await? {
        return answer(job);
    }
    let job = NewJob {
        spec: JobSpec::parse(&new.body.0)?,
        project: new.project(),
        once: Some(new.once),
    };
    answer(state.scheduler.submit(job).await?)
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

/// Which jobs are wanted.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct JobQuery {
    /// Only jobs whose metadata hold these pairs, written `metadata[key]=value`; `metadata=null` = only jobs without metadata.
    #[param(value_type = Option<std::collections::HashMap<String, String>>, style = DeepObject, explode)]
    metadata: MetadataFilter,
}

impl FromPairs for JobQuery {
    fn read(pairs: &mut Pairs) -> Self {
        Self {
            metadata: pairs.metadata(),
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
    params(Paged<20>, JobQuery),
    responses((status = 200, description = "A page of jobs", body = List<FineTuningJob>)),
)]
pub(crate) async fn list_jobs(
    State(state): State<AppState>,
    caller: Caller,
    Query(query): Query<Paged<20, JobQuery>>,
) -> Answer<List<FineTuningJob>> {
    let filter = JobFilter {
        after: query.after,
        limit: query.limit,
        metadata: query.filter.metadata,
    };
    let page = state.store.jobs(&caller.scope, &filter).await?;
    Ok(Json(List::page(page, FineTuningJob::from, |job| &job.id)))
}

/// Find a fine-tuning job
#[utoipa::path(
    get,
    path = "/v1/fine_tuning/jobs/{id}",
    tag = "fine-tuning",
    params(("id" = String, Path, description = "Id of the job")),
    responses((status = 200, description = "The job", body = FineTuningJob)),
)]
pub(crate) async fn find_job(job: Named) -> Answer<FineTuningJob> {
    answer(job.job().await?)
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
pub(crate) async fn cancel_job(job: Named) -> Answer<FineTuningJob> {
    answer(job.state.scheduler.cancel(job.scope(), &job.id).await?)
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
pub(crate) async fn pause_job(job: Named) -> Answer<FineTuningJob> {
    answer(job.state.scheduler.pause(job.scope(), &job.id).await?)
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
pub(crate) async fn resume_job(job: Named) -> Answer<FineTuningJob> {
    answer(job.state.scheduler.resume(job.scope(), &job.id).await?)
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
pub(crate) async fn retry_job(job: Named) -> Answer<FineTuningJob> {
    answer(job.state.scheduler.retry(job.scope(), &job.id).await?)
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
pub(crate) async fn change_job(job: Named, JsonBody(body): JsonBody) -> Answer<FineTuningJob> {
    let JobChange { priority } = JobChange::parse(&body)?;
    let changed = job
        .state
        .scheduler
        .prioritize(job.scope(), &job.id, priority);
    answer(changed.await?)
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
pub(crate) async fn delete_job(job: Named) -> Answer<DeletedJob> {
    job.state.scheduler.delete(job.scope(), &job.id).await?;
    Ok(Json(DeletedJob {
        id: job.id,
        object: "fine_tuning.job",
        deleted: true,
    }))
}
