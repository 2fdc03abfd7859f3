use axum::Json;
use taper_store::CurveQuery;
use utoipa::IntoParams;

use super::named::{Answer, Named};
use crate::wire::{
    CurveBuckets, JobMetrics,
    query::{FromPairs, Pairs, Query},
};

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct MetricsQuery {
    /// Names of figures, with commas between them, at most 100; absent = all.
    #[param(value_type = Option<String>)]
    names: Option<Vec<String>>,
    /// Most buckets per figure; 500 unless told.
    #[param(minimum = 1, maximum = 10_000, value_type = Option<u32>)]
    points: usize,
    /// First step.
    from: Option<u64>,
    /// Last step.
    to: Option<u64>,
}

impl FromPairs for MetricsQuery {
    fn read(pairs: &mut Pairs) -> Self {
        let steps = || 0..=i64::MAX as u64;
        let query = Self {
            names: pairs.list("names", 100),
            points: pairs.integer("points", 1..=10_000).unwrap_or(500) as usize,
            from: pairs.integer("from", steps()),
            to: pairs.integer("to", steps()),
        };
        if let (Some(from), Some(to)) = (query.from, query.to)
            && from > to
        {
            pairs.reject(
                "from",
                format!("'from' is {from}, which is after 'to' ({to})"),
            );
        }
        query
    }
}

/// Find a job's curves
///
/// For every figure at most `points` buckets, each with its least, greatest and last value, so that no spike is lost.
#[utoipa::path(
    get,
    path = "/v1/fine_tuning/jobs/{id}/metrics",
    tag = "fine-tuning",
    params(("id" = String, Path, description = "Id of the job"), MetricsQuery),
    responses((status = 200, description = "The curves", body = JobMetrics)),
)]
pub(crate) async fn find_metrics(
    named: Named,
    Query(query): Query<MetricsQuery>,
) -> Answer<JobMetrics> {
    let job = named.job().await?;
    let wanted = CurveQuery {
        names: query.names,
        from: query.from,
        to: query.to,
    };
    let curves = named.state.store.curves(&job, &wanted).await?;
    let data = curves
        .into_iter()
        .map(|(name, curve)| (name, CurveBuckets::cut(&curve, query.points)))
        .collect();
    Ok(Json(JobMetrics {
        object: "fine_tuning.job.metrics",
        data,
    }))
}
