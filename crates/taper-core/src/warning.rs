use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Metrics, Plan};

/// The figure that names the step of the lowest validation loss once the loss rises; 0 when it has fallen below that since.
pub const OVERFITTING_FROM: &str = "overfitting_from_step";
/// The figure that names the first step at which the training loss went up rather than down.
pub const UNSTABLE_FROM: &str = "unstable_from_step";

/// What a person would want to know of a job that goes on all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Warning {
    pub code: WarningCode,
    /// For people: what was seen, how often, what to do.
    pub message: String,
}

/// What a warning is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WarningCode {
    /// Rows longer than `max_length`.
    TruncatedRows,
    /// A class that has few rows beside another.
    LabelImbalance,
    /// A class that no validation row has.
    UnusedClasses,
    /// Labels that look like two ways to write one.
    SimilarLabels,
    /// Validation rows that are also trained on.
    DuplicateRows,
    /// The validation loss rises while the training loss falls.
    Overfitting,
    /// The training loss goes up.
    UnstableLearningRate,
    /// The run is shorter than asked for, by its experiment's budget of minutes.
    CutByTime,
    /// A reader of the result that is known to refuse it, or to compute something else with it.
    ReaderLimits,
}

impl WarningCode {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TruncatedRows => "truncated_rows",
            Self::LabelImbalance => "label_imbalance",
            Self::UnusedClasses => "unused_classes",
            Self::SimilarLabels => "similar_labels",
            Self::DuplicateRows => "duplicate_rows",
            Self::Overfitting => "overfitting",
            Self::UnstableLearningRate => "unstable_learning_rate",
            Self::CutByTime => "cut_by_time",
            Self::ReaderLimits => "reader_limits",
        }
    }
}

impl Warning {
    pub fn new(code: WarningCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// All that is known of a job by its plan and the last value of its figures.
    pub fn of_job(plan: Option<&Plan>, metrics: &Metrics) -> Vec<Self> {
        let of_data = plan.map_or(&[][..], |plan| &plan.warnings);
        of_data
            .iter()
            .cloned()
            .chain(Self::of_run(metrics))
            .collect()
    }

    /// What a run's figures say.
    pub fn of_run(metrics: &Metrics) -> Vec<Self> {
        let step = |name| metrics.get(name).filter(|step| *step > 0.0);
        let overfitting = step(OVERFITTING_FROM).map(|step| {
            let message = format!(
                "the validation loss has risen since step {step} while the training loss fell: the model learns its rows by heart; that step's model, which training.load_best_model_at_end publishes, is the best"
            );
            Self::new(WarningCode::Overfitting, message)
        });
        let unstable = step(UNSTABLE_FROM).map(|step| {
            let message = format!(
                "the training loss went up at step {step}: training.learning_rate is too high for these settings; lower it, or set training.warmup_steps"
            );
            Self::new(WarningCode::UnstableLearningRate, message)
        });
        overfitting.into_iter().chain(unstable).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_has_the_warnings_of_its_data_and_of_its_run() {
        let plan = Plan {
            warnings: vec![Warning::new(WarningCode::TruncatedRows, "3 rows")],
            ..Plan::default()
        };
        let metrics = Metrics::from([(OVERFITTING_FROM, 40.0), (UNSTABLE_FROM, 0.0)]);
        let warnings = Warning::of_job(Some(&plan), &metrics);
        let codes: Vec<_> = warnings.iter().map(|warning| warning.code).collect();
        assert_eq!(
            codes,
            [WarningCode::TruncatedRows, WarningCode::Overfitting]
        );
        assert!(warnings[1].message.contains("step 40"));
        assert_eq!(Warning::of_job(None, &Metrics::new()), []);
    }
}
