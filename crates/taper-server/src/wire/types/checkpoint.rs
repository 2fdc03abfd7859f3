use serde::Serialize;
use serde_json::{Map, Value};
use taper_core::Metrics;
use taper_store::{Checkpoint, Job};
use utoipa::ToSchema;

/// A state of a run from which it can go on.
#[derive(Debug, Serialize, ToSchema)]
pub struct FineTuningCheckpoint {
    /// `ftckpt-…`
    pub id: String,
    /// Always `fine_tuning.job.checkpoint`.
    pub object: &'static str,
    /// Unix seconds.
    pub created_at: i64,
    /// The name of the model as it was at this step.
    pub fine_tuned_model_checkpoint: String,
    pub fine_tuning_job_id: String,
    /// The optimizer step after which it was kept.
    pub step_number: u64,
    /// The last figures before it, as far as they are finite: clients of OpenAI's expect numbers here.
    #[schema(value_type = HashMap<String, f64>)]
    pub metrics: Map<String, Value>,
    /// Its size on the disk; this field is taper's.
    pub bytes: u64,
}

impl FineTuningCheckpoint {
    pub(crate) fn new(job: &Job, checkpoint: Checkpoint) -> Self {
        let model = job.tuned_model_name();
        let mut metrics = figures(&checkpoint.metrics);
        metrics.retain(|_, figure| !figure.is_null());
        Self {
            id: checkpoint.id,
            object: "fine_tuning.job.checkpoint",
            created_at: checkpoint.created_at,
            fine_tuned_model_checkpoint: format!("{model}:ckpt-step-{}", checkpoint.step),
            fine_tuning_job_id: job.id.clone(),
            step_number: checkpoint.step,
            metrics,
            bytes: checkpoint.bytes,
        }
    }
}

/// Figures alone, null where a value is not finite.
pub(crate) fn figures(metrics: &Metrics) -> Map<String, Value> {
    let mut figures = metrics.to_json();
    figures.remove("non_finite");
    figures
}
