use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Map, Value};
use taper_core::{
    ComparisonRow, Experiment, ExperimentWarning, JobState, Tuning,
    experiment::{Budget, Direction, ExperimentProgress, Objective, Strategy},
};
use taper_scheduler::ExperimentView;
use utoipa::ToSchema;

use super::CreateFineTuningJob;

/// Jobs that are compared with each other.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExperimentObject {
    /// `exp-…`
    pub id: String,
    /// Always `experiment`.
    pub object: &'static str,
    /// Unix seconds, as all times.
    pub created_at: i64,
    /// When its first run started.
    pub started_at: Option<i64>,
    /// When its last run ended.
    pub finished_at: Option<i64>,
    /// When it will end at its present speed, about; only while it runs or is queued.
    pub estimated_finish: Option<i64>,
    /// That of its runs taken together: `succeeded` once all have ended and one has succeeded.
    pub status: JobState,
    pub model: String,
    pub training_file: String,
    pub validation_file: Option<String>,
    pub user_provided_suffix: Option<String>,
    pub seeds: Vec<u64>,
    pub strategy: Strategy,
    pub budget: Option<Budget>,
    pub objective: Objective,
    /// Ids of its jobs, in the order of their configurations and seeds.
    pub jobs: Vec<String>,
    pub progress: ExperimentProgress,
    /// A row per configuration, in their order.
    pub table: Vec<ComparisonRow>,
    /// Index of the best configuration among those that ran to their end: two are compared over the seeds that both have.
    pub best: Option<usize>,
    /// Which configuration to take and why, in one sentence; null until all runs have ended and the intervals are made.
    pub recommendation: Option<String>,
    pub warnings: Vec<ExperimentWarning>,
}

/// The comparison of an experiment by itself.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExperimentTable {
    /// Always `experiment.table`.
    pub object: &'static str,
    pub objective: Objective,
    pub table: Vec<ComparisonRow>,
    pub best: Option<usize>,
    pub recommendation: Option<String>,
}

/// What an experiment would compare.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExperimentPlan {
    /// Always `experiment.plan`.
    pub object: &'static str,
    /// Configurations times seeds.
    pub runs: usize,
    pub seeds: Vec<u64>,
    pub objective: Objective,
    pub configurations: Vec<ConfigurationObject>,
}

/// A configuration of an experiment.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConfigurationObject {
    /// Its index, from 0.
    pub configuration: usize,
    /// Its method and what sets it apart.
    pub label: String,
    pub tuning: Tuning,
    /// The settings of `training` in which the configurations differ.
    #[schema(value_type = HashMap<String, Value>)]
    pub training: Map<String, Value>,
}

/// What an experiment is answered with: itself, or with `dry_run` its plan.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum SubmittedExperiment {
    Experiment(Box<ExperimentObject>),
    Plan(ExperimentPlan),
}

/// The answer to the deletion of an experiment.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeletedExperiment {
    pub id: String,
    /// Always `experiment`.
    pub object: &'static str,
    /// Always true.
    pub deleted: bool,
}

impl From<ExperimentView> for ExperimentObject {
    fn from(view: ExperimentView) -> Self {
        let spec = view.record.spec;
        let finished_at = view.jobs.iter().filter_map(|job| job.finished_at).max();
        Self {
            id: view.record.id,
            object: "experiment",
            created_at: view.record.created_at,
            started_at: view.jobs.iter().filter_map(|job| job.started_at).min(),
            finished_at: finished_at.filter(|_| view.state.is_terminal()),
            estimated_finish: view
                .seconds_left
                .map(|left| from_now(left, SystemTime::now())),
            status: view.state,
            model: spec.model,
            training_file: spec.training_file,
            validation_file: spec.validation_file,
            user_provided_suffix: spec.suffix,
            seeds: spec.seeds,
            strategy: spec.strategy,
            budget: spec.budget,
            objective: spec.objective,
            jobs: view.jobs.into_iter().map(|job| job.id).collect(),
            progress: view.progress,
            table: view.comparison.table,
            best: view.comparison.best,
            recommendation: view.comparison.recommendation,
            warnings: view.comparison.warnings,
        }
    }
}

fn from_now(seconds: f64, now: SystemTime) -> i64 {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    (now.as_secs_f64() + seconds) as i64
}

impl From<ExperimentView> for ExperimentTable {
    fn from(view: ExperimentView) -> Self {
        Self {
            object: "experiment.table",
            objective: view.record.spec.objective,
            table: view.comparison.table,
            best: view.comparison.best,
            recommendation: view.comparison.recommendation,
        }
    }
}

impl From<Experiment> for ExperimentPlan {
    fn from(spec: Experiment) -> Self {
        let configurations = spec.configurations.into_iter().enumerate();
        let configurations: Vec<_> = configurations
            .map(|(configuration, it)| ConfigurationObject {
                configuration,
                label: it.label,
                tuning: it.tuning,
                training: it.training,
            })
            .collect();
        Self {
            object: "experiment.plan",
            runs: configurations.len() * spec.seeds.len(),
            seeds: spec.seeds,
            objective: spec.objective,
            configurations,
        }
    }
}

// These structs only describe the body: `ExperimentRequest::parse` reads it, and tells all that is wrong with it at once.

/// What is to be compared: the body of a job, and what varies. Unknown fields are refused.
#[derive(Debug, ToSchema)]
pub struct CreateExperiment {
    #[serde(flatten)]
    pub job: CreateFineTuningJob,
    /// `"all"`, or a list of objects like `tuning`, whose place it takes.
    #[schema(required = false)]
    pub methods: Option<Value>,
    /// From paths to lists of values, for instance `{"training.learning_rate": [1e-4, 3e-4]}`; a `tuning.` path applies to the methods
    /// that have the field.
    #[schema(required = false, value_type = Option<HashMap<String, Vec<Value>>>)]
    pub grid: Option<Value>,
    /// `n` samples of values drawn from `{"linear": [low, high]}`, `{"log": [low, high]}` or `{"choice": […]}` by path; the same with the
    /// same `seed`.
    #[schema(required = false, value_type = Option<HashMap<String, Value>>)]
    pub random: Option<Value>,
    /// Each configuration is run once per seed; takes the place of `training.seed`.
    #[schema(required = false)]
    pub seeds: Option<Vec<u64>>,
    /// `"all"`, `"asha"`, or an object with one of them as its `type` and for `asha` a `reduction` from 2 to 10.
    #[schema(required = false)]
    pub strategy: Option<Value>,
    #[schema(required = false)]
    pub budget: Option<Budget>,
    #[schema(required = false)]
    pub objective: Option<CreateObjective>,
}

/// What the configurations are compared by.
#[derive(Debug, ToSchema)]
pub struct CreateObjective {
    /// A figure of an evaluation, or `train_loss`; absent = `valid_accuracy` for classes, `valid_loss` for texts.
    #[schema(required = false)]
    pub metric: Option<String>,
    /// Absent = what is usual for the metric.
    #[schema(required = false)]
    pub direction: Option<Direction>,
}
