use serde::Serialize;
use taper_core::Plan;
use taper_store::Job;
use utoipa::ToSchema;

use super::FineTuningJob;

/// What the create route answers.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Submitted {
    Job(Box<FineTuningJob>),
    Plan(Box<PlanObject>),
}

impl From<Job> for Submitted {
    fn from(job: Job) -> Self {
        Self::Job(Box::new(job.into()))
    }
}

impl From<Plan> for Submitted {
    fn from(plan: Plan) -> Self {
        Self::Plan(Box::new(plan.into()))
    }
}

/// What a job would do and take.
#[derive(Debug, Serialize, ToSchema)]
pub struct PlanObject {
    /// Always `fine_tuning.job.plan`.
    pub object: &'static str,
    /// Bytes of memory at the peak: the sum of `memory`.
    pub memory_bytes: u64,
    #[serde(flatten)]
    pub plan: Plan,
}

impl From<Plan> for PlanObject {
    fn from(plan: Plan) -> Self {
        Self {
            object: "fine_tuning.job.plan",
            memory_bytes: plan.memory.total(),
            plan,
        }
    }
}
