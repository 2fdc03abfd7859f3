//! How the weights of a model are adapted. One file per method; names are PEFT's.

mod layerwise;
mod lora;
mod prompt_tuning;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{FieldError, fields::Fields};

/// Module names, or patterns of names, in one setting.
const MOST_NAMES: usize = 1000;
/// Bytes of one of them.
const LONGEST_NAME: usize = 200;

pub use layerwise::Layerwise;
pub use lora::{Lora, TargetModules};
pub use prompt_tuning::{PromptInit, PromptTuning};

/// The tuning method of a job and the task it is tuned for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Tuning {
    #[serde(flatten)]
    pub method: Method,
    /// What the model is tuned for; absent until the data and the model have been looked at.
    pub task_type: Option<TaskType>,
}

/// A tuning method with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Method {
    /// Every weight is trained.
    Full,
    /// Every weight is trained, each layer at its own rate, or not at all.
    Layerwise(Layerwise),
    /// Low-rank adapters beside frozen weights.
    Lora(Lora),
    /// Trained vectors in front of the input of a frozen model.
    PromptTuning(PromptTuning),
}

/// What a model is tuned for; the names are PEFT's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum TaskType {
    /// Sequence classification.
    #[serde(rename = "SEQ_CLS")]
    SeqCls,
    /// Next-token prediction.
    #[serde(rename = "CAUSAL_LM")]
    CausalLm,
}

impl TaskType {
    /// The name in the API and in PEFT's files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SeqCls => "SEQ_CLS",
            Self::CausalLm => "CAUSAL_LM",
        }
    }

    /// The figure by which an experiment compares runs where none is asked for.
    pub fn usual_objective(self) -> &'static str {
        match self {
            Self::SeqCls => "valid_accuracy",
            Self::CausalLm => "valid_loss",
        }
    }

    /// The names of the figures that an evaluation gives.
    pub fn measured_by(self) -> &'static [&'static str] {
        match self {
            Self::SeqCls => &["valid_loss", "valid_accuracy", "valid_macro_f1"],
            Self::CausalLm => &[
                "valid_loss",
                "valid_perplexity",
                "valid_mean_token_accuracy",
            ],
        }
    }
}

impl Method {
    /// The names of all methods, as `type` takes them.
    pub(crate) const NAMES: [&'static str; 4] = ["lora", "full", "layerwise", "prompt_tuning"];

    /// The name of the method in the API.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Layerwise(_) => "layerwise",
            Self::Lora(_) => "lora",
            Self::PromptTuning(_) => "prompt_tuning",
        }
    }

    /// The learning rate where none is given.
    pub fn default_learning_rate(&self, task: TaskType) -> f64 {
        match (self, task) {
            (Self::Full, _) => 5e-5,
            (Self::Layerwise(_), _) => 1e-4,
            (Self::Lora(_), TaskType::SeqCls) => 1e-3,
            (Self::Lora(_), TaskType::CausalLm) => 2e-4,
            (Self::PromptTuning(_), _) => 1e-2,
        }
    }

    /// Whether the result is an adapter beside an unchanged base model, rather than a whole model.
    pub fn is_adapter(&self) -> bool {
        match self {
            Self::Full | Self::Layerwise(_) => false,
            Self::Lora(_) | Self::PromptTuning(_) => true,
        }
    }
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            method: Method::Lora(Lora::default()),
            task_type: None,
        }
    }
}

impl Tuning {
    /// Reads the `tuning` object of a body (`path` names it in errors).
    pub(crate) fn parse(
        path: &str,
        object: &Map<String, Value>,
        errors: &mut Vec<FieldError>,
    ) -> Self {
        let mut fields = Fields::new(path, object);
        let kind = fields.choice("type", &Method::NAMES.map(|name| (name, name)));
        fields.require("type", kind.is_some());
        let tasks = [TaskType::SeqCls, TaskType::CausalLm].map(|task| (task.as_str(), task));
        let task_type = fields.choice("task_type", &tasks);
        let method = match kind {
            Some("full") => Method::Full,
            Some("layerwise") => Method::Layerwise(Layerwise::parse(&mut fields)),
            Some("prompt_tuning") => Method::PromptTuning(PromptTuning::parse(&mut fields)),
            Some(_) => Method::Lora(Lora::parse(&mut fields)),
            None => {
                errors.append(&mut fields.errors);
                return Self::default();
            }
        };
        errors.append(&mut fields.finish());
        Self { method, task_type }
    }
}
