use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use serde_json::{Map, Value};
use taper_core::{JobError, JobState, Plan, Reason, Training, Tuning, Warning};
use taper_store::Job;
use utoipa::ToSchema;

use super::checkpoint::figures;

/// A fine-tuning job: OpenAI's fields, and taper's `tuning`, `training`, `metrics`, `plan`, `attempt`, `bytes`, `priority`,
/// `queue_position`, `estimated_start` and `started_at`.
#[derive(Debug, Serialize, ToSchema)]
pub struct FineTuningJob {
    /// `ftjob-…`
    pub id: String,
    /// Always `fine_tuning.job`.
    pub object: &'static str,
    /// Unix seconds, as all times.
    pub created_at: i64,
    /// When it first ran.
    pub started_at: Option<i64>,
    /// When it ended.
    pub finished_at: Option<i64>,
    /// When it will end at its present speed; only while it runs.
    pub estimated_finish: Option<i64>,
    pub status: JobState,
    /// Why it failed; null otherwise.
    pub error: Option<JobError>,
    /// The model it starts from.
    pub model: String,
    /// The name of what it has made; null until it has succeeded.
    pub fine_tuned_model: Option<String>,
    /// `org-` and the project.
    pub organization_id: String,
    /// Ids of files with its results.
    pub result_files: Vec<String>,
    pub training_file: String,
    pub validation_file: Option<String>,
    /// Tokens trained on, without padding; null until it has succeeded.
    pub trained_tokens: Option<u64>,
    pub seed: u64,
    /// The values of OpenAI's names in force.
    pub hyperparameters: Hyperparameters,
    /// OpenAI's form of the method; how the weights are adapted stands in `tuning`.
    pub method: MethodObject,
    pub user_provided_suffix: Option<String>,
    pub metadata: BTreeMap<String, String>,
    /// How the weights are adapted, with every value in force.
    pub tuning: Tuning,
    /// How the optimisation runs, with every value in force.
    pub training: Training,
    /// The last value of every figure; null where it is not finite.
    #[schema(value_type = HashMap<String, Option<f64>>)]
    pub metrics: Map<String, Value>,
    /// What the run does; null until the files are validated.
    pub plan: Option<Plan>,
    /// What a person would want to know of its data and of how it goes.
    pub warnings: Vec<Warning>,
    /// Starts so far.
    pub attempt: u32,
    /// Its checkpoints and results on the server's disk.
    pub bytes: u64,
    /// The experiment that it is a part of.
    pub experiment_id: Option<String>,
    /// Which of the experiment's configurations it runs, from 0.
    pub configuration: Option<usize>,
    /// The step at which it waits for the other runs of its experiment.
    pub pause_at_step: Option<u64>,
    /// Why its experiment has stopped it: while it is paused `rung`, once it is cancelled `stopped_early`; null where it was not its experiment.
    pub reason: Option<Reason>,
    /// Higher runs first.
    pub priority: i32,
    /// 1 for the next job to run; only while it is queued.
    pub queue_position: Option<u64>,
    /// When it will start, about; only while it is queued, and null when the jobs before it do not tell how long they take.
    pub estimated_start: Option<i64>,
}

/// What may be changed of a job that has been submitted.
#[derive(Debug, ToSchema)]
pub struct ChangeFineTuningJob {
    /// Higher runs first.
    #[schema(minimum = -100, maximum = 100)]
    pub priority: i32,
}

/// The answer to the deletion of a job.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeletedJob {
    pub id: String,
    /// Always `fine_tuning.job`.
    pub object: &'static str,
    /// Always true.
    pub deleted: bool,
}

/// OpenAI's names for three settings.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Hyperparameters {
    /// Passes over the data; the last one may be a part of one, as `training` says.
    pub n_epochs: u64,
    /// Rows per optimizer step.
    pub batch_size: u64,
    /// Factor on the method's default learning rate.
    #[schema(value_type = f64)]
    pub learning_rate_multiplier: Value,
}

/// OpenAI's form of a job's method.
#[derive(Debug, Serialize, ToSchema)]
pub struct MethodObject {
    /// Always `supervised`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub supervised: SupervisedMethod,
}

/// Settings of OpenAI's supervised method.
#[derive(Debug, Serialize, ToSchema)]
pub struct SupervisedMethod {
    pub hyperparameters: Hyperparameters,
}

impl From<Job> for FineTuningJob {
    fn from(job: Job) -> Self {
        let hyperparameters = Hyperparameters {
            n_epochs: job.spec.training.num_train_epochs.ceil() as u64,
            batch_size: job.spec.training.effective_batch_size(),
            learning_rate_multiplier: shortest(job.spec.learning_rate_multiplier),
        };
        Self {
            estimated_finish: estimated_finish(&job, SystemTime::now()),
            metrics: figures(&job.metrics),
            id: job.id,
            object: "fine_tuning.job",
            created_at: job.created_at,
            started_at: job.started_at,
            finished_at: job.finished_at,
            status: job.state,
            error: job.error,
            model: job.spec.model,
            fine_tuned_model: job.fine_tuned_model,
            organization_id: format!("org-{}", job.project),
            result_files: job.result_files,
            training_file: job.spec.training_file,
            validation_file: job.spec.validation_file,
            trained_tokens: job.trained_tokens,
            seed: job.spec.training.seed,
            hyperparameters: hyperparameters.clone(),
            method: MethodObject {
                kind: "supervised",
                supervised: SupervisedMethod { hyperparameters },
            },
            user_provided_suffix: job.spec.suffix,
            metadata: job.spec.metadata,
            tuning: job.spec.tuning,
            training: job.spec.training,
            warnings: Warning::of_job(job.plan.as_ref(), &job.metrics),
            plan: job.plan,
            attempt: job.attempt,
            bytes: job.bytes,
            configuration: job.part.as_ref().map(|part| part.configuration),
            experiment_id: job.part.map(|part| part.experiment),
            pause_at_step: job.pause_at_step,
            reason: job.reason,
            priority: job.priority,
            queue_position: job.queue_position,
            estimated_start: job.estimated_start,
        }
    }
}

/// A number as OpenAI's clients expect it: an integer where it is one.
fn shortest(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        Value::from(number as i64)
    } else {
        Value::from(number)
    }
}

fn estimated_finish(job: &Job, now: SystemTime) -> Option<i64> {
    let left = job.metrics.get("eta_seconds").filter(|s| s.is_finite())?;
    let now = now.duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
    (job.state == JobState::Running).then_some((now + left) as i64)
}
