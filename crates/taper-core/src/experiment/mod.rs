//! Experiments: the same data trained with several configurations, and what the comparison of them says.
//!
//! [`ExperimentRequest::parse`] turns one body into the specifications of ordinary jobs, [`decide`] says which of them are stopped
//! early, and [`Comparison::of`] makes the table of what they have come to.

mod asha;
mod bootstrap;
mod compare;
mod configurations;
mod describe;
mod progress;
mod random;
mod render;
mod request;
mod search;
mod verdict;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    FieldError, JobError, JobState, Metrics, Plan, SpecError, TaskType, Training, Tuning, Warning,
    WarningCode,
};

pub use asha::{Move, Next, decide, first_rung};
pub use bootstrap::RowScores;
pub use compare::{
    Comparison, ComparisonRow, ExperimentWarning, Intervals, Pairs, RowStatus, overall,
};
pub use progress::{ExperimentProgress, seconds_left};
pub use request::ExperimentRequest;

/// What an experiment compares and how, with every value in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Experiment {
    pub model: String,
    /// Id of an uploaded file.
    pub training_file: String,
    pub validation_file: Option<String>,
    /// A user's own part of the tuned models' names.
    pub suffix: Option<String>,
    pub seeds: Vec<u64>,
    pub strategy: Strategy,
    pub budget: Option<Budget>,
    pub objective: Objective,
    /// Each is run once per seed.
    pub configurations: Vec<Configuration>,
}

/// One of the ways to train that an experiment compares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Configuration {
    /// Its method and what sets it apart, for people; no two configurations have the same.
    pub label: String,
    pub tuning: Tuning,
    /// The settings of training in which the configurations differ.
    pub training: Map<String, Value>,
}

/// Which runs of an experiment go on to their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Strategy {
    /// All of them.
    All,
    /// Successive halving: at each rung the best `1/reduction` of the configurations go on, and the others are stopped.
    Asha { reduction: u64 },
}

/// The most that one run may take; a run that is shorter by itself stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// Optimizer steps.
    MaxSteps(u64),
    /// Tokens trained on, without padding.
    MaxTokens(u64),
    /// Minutes, by the estimate of the run's plan.
    MaxMinutes(f64),
}

impl Budget {
    /// The optimizer steps that a run is cut to; `None` = it fits.
    pub fn steps(self, plan: &Plan, training: &Training) -> Option<u64> {
        let (per_epoch, _) = training.steps(plan.training_rows);
        let per_step = |whole: f64, steps: u64| whole / steps.max(1) as f64;
        let most = match self {
            Self::MaxSteps(steps) => steps as f64,
            Self::MaxTokens(tokens) => {
                tokens as f64 / per_step(plan.training_tokens as f64, per_epoch)
            }
            Self::MaxMinutes(minutes) => {
                minutes * 60.0 / per_step(plan.estimated_seconds, plan.total_steps)
            }
        };
        // Without an estimate the quotient is not finite, and nothing is cut.
        let cut = most.is_finite() && most < plan.total_steps as f64;
        cut.then_some((most as u64).max(1))
    }

    /// What is to be told of a run that was cut from `whole` to `steps` steps. Steps and tokens are the same work for all; minutes go
    /// by an estimate, which may say otherwise of the next seed.
    pub fn warning(self, steps: u64, whole: u64) -> Option<Warning> {
        let Self::MaxMinutes(minutes) = self else {
            return None;
        };
        let message = format!(
            "ended by max_minutes at step {steps} of {whole}, where by its plan's estimate {minutes} minutes are over; a run that ends at another step has not done the same work"
        );
        Some(Warning::new(WarningCode::CutByTime, message))
    }
}

/// What the configurations are compared by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Objective {
    /// The name of a figure.
    pub metric: String,
    pub direction: Direction,
}

/// Which values of a figure are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Higher ones.
    Max,
    /// Lower ones.
    Min,
}

/// The figure to compare by where there is no validation data.
const TRAIN_LOSS: &str = "train_loss";

impl Objective {
    /// Fills in what was not asked for, by the task and by whether there is validation data.
    ///
    /// # Errors
    /// A metric by which the task is not measured.
    fn resolve(
        metric: Option<&str>,
        direction: Option<Direction>,
        task: TaskType,
        validated: bool,
    ) -> Result<Self, SpecError> {
        let usual = if validated {
            task.usual_objective()
        } else {
            TRAIN_LOSS
        };
        let metric = metric.unwrap_or(usual);
        if metric != TRAIN_LOSS && !task.measured_by().contains(&metric) {
            let message = format!(
                "'objective.metric' is {metric}, but {} is measured by {}",
                task.as_str(),
                task.measured_by().join(", ")
            );
            return Err(FieldError::invalid("objective.metric", message).into());
        }
        let lower = metric.ends_with("_loss") || metric.ends_with("_perplexity");
        let usual = if lower {
            Direction::Min
        } else {
            Direction::Max
        };
        Ok(Self {
            metric: metric.to_owned(),
            direction: direction.unwrap_or(usual),
        })
    }

    /// Tells whether a configuration with this difference to another is the better one of the two.
    fn is_better(&self, difference: f64) -> bool {
        self.order(Some(difference), Some(0.0)).is_lt()
    }

    /// The order of two values, the better one first; what is missing or not finite comes last.
    fn order(&self, a: Option<f64>, b: Option<f64>) -> std::cmp::Ordering {
        let worst = f64::INFINITY;
        let cost = |value: Option<f64>| match (value.filter(|v| v.is_finite()), self.direction) {
            (None, _) => worst,
            (Some(value), Direction::Max) => -value,
            (Some(value), Direction::Min) => value,
        };
        cost(a).total_cmp(&cost(b))
    }
}

/// Why an experiment has stopped one of its runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It waits until the other runs have come as far.
    Rung,
    /// Others were better at the same step.
    StoppedEarly,
}

impl Reason {
    /// The name in the API and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rung => "rung",
            Self::StoppedEarly => "stopped_early",
        }
    }
}

/// A run of an experiment, as far as the comparison looks at it.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Id of its job.
    pub job: String,
    /// Index of its configuration.
    pub configuration: usize,
    pub seed: u64,
    pub state: JobState,
    pub reason: Option<Reason>,
    pub error: Option<JobError>,
    /// Last value of every figure.
    pub metrics: Metrics,
    /// Known once its files are validated.
    pub plan: Option<Plan>,
    /// The step at which it waits for the others; `None` = it goes on to its end.
    pub pause_at_step: Option<u64>,
    pub has_started: bool,
}

impl Run {
    /// Tells whether it waits at a rung.
    fn is_at_rung(&self) -> bool {
        self.state == JobState::Paused && self.reason == Some(Reason::Rung)
    }

    fn is_stopped_early(&self) -> bool {
        self.reason == Some(Reason::StoppedEarly)
    }

    /// A figure that can be counted with.
    fn figure(&self, name: &str) -> Option<f64> {
        self.metrics.get(name).filter(|value| value.is_finite())
    }

    /// Optimizer steps trained so far.
    fn steps(&self) -> u64 {
        self.figure("step").map_or(0, |step| step as u64)
    }
}

/// The mean of some values; `None` without any.
fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0);
    for value in values {
        sum += value;
        count += 1;
    }
    (count > 0).then(|| sum / f64::from(count))
}

#[cfg(test)]
mod tests;
