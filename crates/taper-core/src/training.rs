use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{FieldError, SchedulerType, fields::Fields};

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

/// How the optimisation runs. Names and meanings are those of `transformers.TrainingArguments`, where they exist there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Training {
    /// Passes over the training data; may be fractional.
    pub num_train_epochs: f64,
    /// Optimizer steps; above 0 it overrides `num_train_epochs`.
    pub max_steps: i64,
    /// Rows of one forward and backward pass.
    pub per_device_train_batch_size: u64,
    /// Passes whose gradients are summed before an optimizer step.
    pub gradient_accumulation_steps: u64,
    /// The peak learning rate; absent = the default of the tuning method.
    pub learning_rate: Option<f64>,
    pub lr_scheduler_type: SchedulerType,
    /// Warm-up in steps; below 1 it is a share of the run.
    pub warmup_steps: f64,
    /// Decoupled weight decay; biases and norms have none.
    pub weight_decay: f64,
    /// Gradients are scaled down to this norm; 0 = never.
    pub max_grad_norm: f64,
    pub logging_steps: Interval,
    /// Steps between evaluations; absent = at the end of each epoch.
    pub eval_steps: Option<Interval>,
    /// Steps between checkpoints; absent = at the end of each epoch.
    pub save_steps: Option<Interval>,
    /// Minutes after which a checkpoint is written besides those of `save_steps`, so that a crash costs no more.
    pub save_minutes: f64,
    /// Checkpoints kept; the best and the last are kept in any case.
    pub save_total_limit: u64,
    /// Publish the best checkpoint by `metric_for_best_model` rather than the last.
    pub load_best_model_at_end: bool,
    pub metric_for_best_model: String,
    /// Evaluations without progress after which the run stops; absent = never.
    pub early_stopping_patience: Option<u64>,
    /// Longest row in tokens, special tokens included; longer rows are cut on the right. Absent = the longest row, as far as model and memory take it; 512 for plain text and packing.
    pub max_length: Option<u64>,
    /// Several rows in one sequence of at most `max_length` tokens, without attention between them.
    pub packing: bool,
    pub seed: u64,
    /// Share of the training rows held out for validation, stratified by class.
    pub eval_split: Option<f64>,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            num_train_epochs: 3.0,
            max_steps: -1,
            per_device_train_batch_size: 16,
            gradient_accumulation_steps: 1,
            learning_rate: None,
            lr_scheduler_type: SchedulerType::Linear,
            warmup_steps: 0.0,
            weight_decay: 0.01,
            max_grad_norm: 1.0,
            logging_steps: Interval(10.0),
            eval_steps: None,
            save_steps: None,
            save_minutes: 10.0,
            save_total_limit: 3,
            load_best_model_at_end: false,
            metric_for_best_model: "valid_loss".to_owned(),
            early_stopping_patience: None,
            max_length: None,
            packing: false,
            seed: 42,
            eval_split: None,
        }
    }
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
    /// Reads the `training` object of a body over `self`, the values that other parts of the body have set.
    pub(crate) fn parse(
        mut self,
        object: &Map<String, Value>,
        errors: &mut Vec<FieldError>,
    ) -> Self {
        let mut f = Fields::new("training", object);
        self.read_optimisation(&mut f);
        self.read_rhythm(&mut f);
        if let Some(n) = f.integer("max_length", 2..=1_000_000) {
            self.max_length = Some(n as u64);
        }
        if let Some(n) = f.integer("seed", 0..=i64::from(i32::MAX)) {
            self.seed = n as u64;
        }
        self.eval_split = f
            .number("eval_split", "between 0 and 1", |x| x > 0.0 && x < 1.0)
            .or(self.eval_split);
        f.choice("optim", &[("adamw_torch", ()), ("adamw", ())]);
        if let Some(yes) = f.boolean("packing") {
            self.packing = yes;
        }
        if f.boolean("bf16") == Some(true) {
            f.reject("bf16", "is not supported by this version; leave it out");
        }
        errors.append(&mut f.finish());
        self
    }

    fn read_optimisation(&mut self, f: &mut Fields<'_>) {
        let positive = |x: f64| x > 0.0;
        if let Some(x) = f.number(
            "num_train_epochs",
            "greater than 0 and at most 10000",
            |x| positive(x) && x <= 1e4,
        ) {
            self.num_train_epochs = x;
        }
        if let Some(n) = f.integer("max_steps", -1..=1_000_000_000) {
            if n == 0 {
                f.reject("max_steps", "must be -1 (off) or at least 1, not 0");
            }
            self.max_steps = n;
        }
        if let Some(n) = f.integer("per_device_train_batch_size", 1..=65_536) {
            self.per_device_train_batch_size = n as u64;
        }
        if let Some(n) = f.integer("gradient_accumulation_steps", 1..=65_536) {
            self.gradient_accumulation_steps = n as u64;
        }
        self.learning_rate = f
            .number("learning_rate", "greater than 0 and at most 10", |x| {
                (1e-12..=10.0).contains(&x)
            })
            .or(self.learning_rate);
        if let Some(kind) = f.choice("lr_scheduler_type", &SchedulerType::WORDS) {
            self.lr_scheduler_type = kind;
        }
        let steps = f.number("warmup_steps", "of at least 0", |x| {
            (0.0..=1e9).contains(&x)
        });
        let ratio = f.number("warmup_ratio", "from 0 to below 1", |x| {
            (0.0..1.0).contains(&x)
        });
        if steps.is_some() && ratio.is_some() {
            f.reject(
                "warmup_ratio",
                "and 'training.warmup_steps' say the same thing twice; leave one out",
            );
        }
        self.warmup_steps = steps.or(ratio).unwrap_or(self.warmup_steps);
        if let Some(x) = f.number("weight_decay", "from 0 to 1", |x| (0.0..=1.0).contains(&x)) {
            self.weight_decay = x;
        }
        if let Some(x) = f.number("max_grad_norm", "of at least 0", |x| {
            (0.0..=1e9).contains(&x)
        }) {
            self.max_grad_norm = x;
        }
    }

    fn read_rhythm(&mut self, f: &mut Fields<'_>) {
        if let Some(every) = interval(f, "logging_steps") {
            self.logging_steps = every;
        }
        self.eval_steps = interval(f, "eval_steps").or(self.eval_steps);
        self.save_steps = interval(f, "save_steps").or(self.save_steps);
        if let Some(minutes) = f.number("save_minutes", "greater than 0 and at most 10000", |x| {
            x > 0.0 && x <= 1e4
        }) {
            self.save_minutes = minutes;
        }
        if let Some(n) = f.integer("save_total_limit", 1..=10_000) {
            self.save_total_limit = n as u64;
        }
        if let Some(yes) = f.boolean("load_best_model_at_end") {
            self.load_best_model_at_end = yes;
        }
        if let Some(name) = f.choice("metric_for_best_model", &METRICS) {
            self.metric_for_best_model = name.to_owned();
        }
        self.early_stopping_patience = f
            .integer("early_stopping_patience", 1..=10_000)
            .map(|n| n as u64)
            .or(self.early_stopping_patience);
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

fn interval(f: &mut Fields<'_>, name: &'static str) -> Option<Interval> {
    f.number(
        name,
        "of steps (a whole number of at least 1) or a share of the run between 0 and 1",
        |x| x > 0.0 && x <= 1e9 && (x < 1.0 || x.fract() == 0.0),
    )
    .map(Interval)
}

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
