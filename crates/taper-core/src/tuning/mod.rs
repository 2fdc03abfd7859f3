//! How the weights of a model are adapted. One file per method; names are PEFT's.

mod lora;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{FieldError, fields::Fields};

pub use lora::Lora;

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
    /// Low-rank adapters beside frozen weights.
    Lora(Lora),
}

/// What a model is tuned for; the names are PEFT's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum TaskType {
    /// Sequence classification.
    #[serde(rename = "SEQ_CLS")]
    SeqCls,
}

impl Method {
    /// The name of the method in the API.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Lora(_) => "lora",
        }
    }

    /// The learning rate where none is given.
    pub fn default_learning_rate(&self, task: TaskType) -> f64 {
        match (self, task) {
            (Self::Full, TaskType::SeqCls) => 5e-5,
            (Self::Lora(_), TaskType::SeqCls) => 1e-3,
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
        let kind = fields.choice("type", &[("lora", "lora"), ("full", "full")]);
        fields.require("type", kind.is_some());
        let task_type = fields.choice("task_type", &[("SEQ_CLS", TaskType::SeqCls)]);
        let method = match kind {
            Some("full") => Method::Full,
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
