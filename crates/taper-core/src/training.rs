use std::ops::Bound;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    FieldError, SchedulerType,
    fields::Fields,
    settings::{Limits, Numbers, OrOff, Setting, SettingType, Settings, Text, settings},
};

/// A distance between two repeated acts: steps when it is 1 or more, a share of the whole run when it is below 1 (as in transformers).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct Interval(f64);

impl Interval {
    /// The distance in optimizer steps of a run of `total_steps`, at least 1.
    pub fn steps(self, total_steps: u64) -> u64 {
        let steps = if self.0 < 1.0 {
            (self.0 * total_steps as f64).ceil()
        } else {
            self.0
        };
        (steps as u64).max(1)
    }
}

settings! {
    /// How the optimisation runs. Names and meanings are those of `transformers.TrainingArguments`, where they exist there.
    pub struct Training {
        /// Passes over the training data; may be fractional.
        num_train_epochs: f64 = 3.0, up_to("greater than 0 and at most 10000", 1e4), common;
        /// Optimizer steps; above 0 it overrides `num_train_epochs`.
        max_steps: i64 = -1, OrOff(MOST_STEPS), common;
        /// Rows of one forward and backward pass.
        per_device_train_batch_size: u64 = 16, 1..=65_536, common;
        /// Passes whose gradients are summed before an optimizer step.
        gradient_accumulation_steps: u64 = 1, 1..=65_536, advanced;
        /// The peak learning rate; absent = the default of the tuning method.
        learning_rate: Option<f64> = None, within("greater than 0 and at most 10", 1e-12, 10.0), common;
        /// How the learning rate moves over the run.
        lr_scheduler_type: SchedulerType = SchedulerType::Linear, (), common;
        /// Warm-up in steps; below 1 it is a share of the run.
        warmup_steps: f64 = 0.0, within("of at least 0", 0.0, 1e9), common;
        /// Decoupled weight decay; biases and norms have none.
        weight_decay: f64 = 0.01, within("from 0 to 1", 0.0, 1.0), common;
        /// Gradients are scaled down to this norm; 0 = never.
        max_grad_norm: f64 = 1.0, within("of at least 0", 0.0, 1e9), advanced;
        /// Steps between logged figures; below 1 it is a share of the run.
        logging_steps: Interval = Interval(10.0), (), advanced;
        /// Steps between evaluations; absent = at the end of each epoch.
        eval_steps: Option<Interval> = None, (), common;
        /// Steps between checkpoints; absent = at the end of each epoch.
        save_steps: Option<Interval> = None, (), advanced;
        /// Minutes after which a checkpoint is written besides those of `save_steps`, so that a crash costs no more.
        save_minutes: f64 = 10.0, up_to("greater than 0 and at most 10000", 1e4), advanced;
        /// Checkpoints kept; the best and the last are kept in any case.
        save_total_limit: u64 = 3, 1..=10_000, advanced;
        /// Publish the best checkpoint by `metric_for_best_model` rather than the last.
        load_best_model_at_end: bool = false, (), common;
        /// The figure by which the best checkpoint is chosen.
        metric_for_best_model: String = "valid_loss".to_owned(), Text::OneOf(&METRICS), common;
        /// Evaluations without progress after which the run stops; absent = never.
        early_stopping_patience: Option<u64> = None, 1..=10_000, common;
        /// Longest row in tokens, special tokens included; longer rows are cut on the right. Absent = the longest row, as far as model and memory take it; 512 for plain text and packing.
        max_length: Option<u64> = None, 2..=1_000_000, common;
        /// Several rows in one sequence of at most `max_length` tokens, without attention between them.
        packing: bool = false, (), common;
        /// What the order of the rows, new weights and dropout are drawn from.
        seed: u64 = 42, 0..=LARGEST_SEED, common;
        /// Share of the training rows held out for validation, stratified by class.
        eval_split: Option<f64> = None, SHARE, common;
    }
}

/// Optimizer steps of a run.
const MOST_STEPS: i64 = 1_000_000_000;
const LARGEST_SEED: i64 = i32::MAX as i64;
const SHARE: Numbers = Numbers::new(
    "between 0 and 1",
    Bound::Excluded(0.0),
    Bound::Excluded(1.0),
);

const fn within(words: &'static str, low: f64, high: f64) -> Numbers {
    Numbers::new(words, Bound::Included(low), Bound::Included(high))
}

/// Numbers above 0.
const fn up_to(words: &'static str, high: f64) -> Numbers {
    Numbers::new(words, Bound::Excluded(0.0), Bound::Included(high))
}

pub(crate) const METRICS: [(&str, &str); 10] = [
    ("valid_loss", "valid_loss"),
    ("valid_accuracy", "valid_accuracy"),
    ("valid_macro_f1", "valid_macro_f1"),
    ("valid_perplexity", "valid_perplexity"),
    ("valid_mean_token_accuracy", "valid_mean_token_accuracy"),
    ("eval_loss", "valid_loss"),
    ("eval_accuracy", "valid_accuracy"),
    ("eval_macro_f1", "valid_macro_f1"),
    ("eval_perplexity", "valid_perplexity"),
    ("eval_mean_token_accuracy", "valid_mean_token_accuracy"),
];

impl Training {
    /// Every setting, with its default.
    pub fn all_settings() -> Vec<Setting> {
        Self::default().settings()
    }

    /// Reads the `training` object of a body over `self`, the values that other parts of the body have set.
    pub(crate) fn parse(
        mut self,
        object: &Map<String, Value>,
        errors: &mut Vec<FieldError>,
    ) -> Self {
        let mut f = Fields::new("training", object);
        self.read(&mut f);
        self.read_warmup_ratio(&mut f);
        f.choice("optim", &[("adamw_torch", ()), ("adamw", ())]);
        if f.boolean("bf16") == Some(true) {
            f.reject("bf16", "is not supported by this version; leave it out");
        }
        errors.append(&mut f.finish());
        self
    }

    /// The older name of `warmup_steps` for a share of the run.
    fn read_warmup_ratio(&mut self, f: &mut Fields<'_>) {
        let share = |x: f64| (0.0..1.0).contains(&x);
        let Some(ratio) = f.number("warmup_ratio", "from 0 to below 1", share) else {
            return;
        };
        if f.has("warmup_steps") {
            f.reject(
                "warmup_ratio",
                "and 'training.warmup_steps' say the same thing twice; leave one out",
            );
        } else {
            self.warmup_steps = ratio;
        }
    }

    /// Whether a lower value of the metric for the best model is better.
    pub fn lower_is_better(&self) -> bool {
        matches!(
            self.metric_for_best_model.as_str(),
            "valid_loss" | "valid_perplexity"
        )
    }

    /// Rows per optimizer step.
    pub fn effective_batch_size(&self) -> u64 {
        self.per_device_train_batch_size * self.gradient_accumulation_steps
    }

    /// Optimizer steps of one epoch over `rows` rows (an incomplete last batch counts), and of the whole run.
    pub fn steps(&self, rows: u64) -> (u64, u64) {
        let per_epoch = rows.div_ceil(self.effective_batch_size()).max(1);
        let total = match u64::try_from(self.max_steps) {
            Ok(steps) if steps > 0 => steps,
            _ => ((per_epoch as f64 * self.num_train_epochs).ceil() as u64).max(1),
        };
        (per_epoch, total)
    }

    /// Warm-up in optimizer steps.
    pub fn warmup(&self, total_steps: u64) -> u64 {
        if self.warmup_steps < 1.0 {
            (self.warmup_steps * total_steps as f64).ceil() as u64
        } else {
            self.warmup_steps as u64
        }
    }
}

impl SettingType for Interval {
    type Range = ();

    fn read(fields: &mut Fields<'_>, name: &'static str, (): &()) -> Option<Self> {
        let words = "of steps (a whole number of at least 1) or a share of the run between 0 and 1";
        let holds = |x: f64| ANY_INTERVAL.holds(x) && (x < 1.0 || x.fract() == 0.0);
        fields.number(name, words, holds).map(Self)
    }

    fn limits((): &()) -> Limits {
        f64::limits(&ANY_INTERVAL)
    }
}

/// Whole numbers alone from 1.
const ANY_INTERVAL: Numbers = up_to("of steps", MOST_STEPS as f64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_warmup() {
        let training = Training {
            num_train_epochs: 1.5,
            per_device_train_batch_size: 4,
            gradient_accumulation_steps: 2,
            ..Training::default()
        };
        assert_eq!(training.steps(17), (3, 5));
        assert_eq!(
            Training {
                max_steps: 2,
                ..training.clone()
            }
            .steps(17),
            (3, 2)
        );
        assert_eq!(
            Training {
                warmup_steps: 0.06,
                ..training.clone()
            }
            .warmup(427),
            26
        );
        assert_eq!(
            Training {
                warmup_steps: 7.0,
                ..training
            }
            .warmup(427),
            7
        );
        assert_eq!(Interval(0.1).steps(95), 10);
    }
}
