use std::collections::BTreeMap;

use serde_json::Value;
use taper_core::{Training, Tuning};
use utoipa::ToSchema;

// These structs only describe the body: `JobSpec::parse` reads it, and tells all that is wrong with it at once.

/// What is to be trained. Unknown fields are refused.
#[derive(Debug, ToSchema)]
pub struct CreateFineTuningJob {
    /// A name of `GET /v1/models`, or of a checkpoint: `ft:…:ckpt-step-N`.
    pub model: String,
    /// Id of an uploaded file of purpose `fine-tune`.
    pub training_file: String,
    /// Id of an uploaded file of purpose `fine-tune`; excludes `training.eval_split`.
    #[schema(required = false)]
    pub validation_file: Option<String>,
    /// Which columns of the files are which fields of a row, where they have other names: `{"text": "review", "label": "stars"}`.
    #[schema(required = false)]
    pub columns: Option<BTreeMap<String, String>>,
    /// Your part of the tuned model's name: 1 to 64 letters, digits, `-`, `_`, `.` and blanks.
    #[schema(required = false, min_length = 1, max_length = 64)]
    pub suffix: Option<String>,
    /// The same as `training.seed`.
    #[schema(required = false, minimum = 0, maximum = 2_147_483_647)]
    pub seed: Option<i64>,
    /// At most 16 pairs; keys of at most 64 characters, values of at most 512.
    #[schema(required = false)]
    pub metadata: Option<BTreeMap<String, String>>,
    /// How the weights are adapted; absent = LoRA.
    #[schema(required = false)]
    pub tuning: Option<Tuning>,
    /// How the optimisation runs. Absent values have defaults.
    #[schema(required = false)]
    pub training: Option<Training>,
    /// OpenAI's method; `supervised` leaves the tuning to `tuning`, the name of a tuning method is the same as in `tuning`.
    #[schema(required = false)]
    pub method: Option<OpenAiMethod>,
    /// OpenAI's deprecated form of `method.supervised.hyperparameters`.
    #[schema(required = false)]
    pub hyperparameters: Option<OpenAiHyperparameters>,
    /// Accepted and ignored; the job's events say so.
    #[schema(required = false)]
    pub integrations: Option<Vec<Value>>,
}

/// OpenAI's `method`.
#[derive(Debug, ToSchema)]
pub struct OpenAiMethod {
    /// `supervised`, `lora` or `full`.
    #[schema(rename = "type")]
    pub kind: String,
    #[schema(required = false)]
    pub supervised: Option<OpenAiSupervised>,
}

/// Settings of OpenAI's supervised method.
#[derive(Debug, ToSchema)]
pub struct OpenAiSupervised {
    #[schema(required = false)]
    pub hyperparameters: Option<OpenAiHyperparameters>,
}

/// OpenAI's names for three settings; each may be `"auto"`.
#[derive(Debug, ToSchema)]
pub struct OpenAiHyperparameters {
    /// 1 to 50, or `"auto"`.
    #[schema(required = false)]
    pub n_epochs: Option<Value>,
    /// Rows per optimizer step, 1 to 256, or `"auto"`.
    #[schema(required = false)]
    pub batch_size: Option<Value>,
    /// Factor on the method's default learning rate, greater than 0, or `"auto"`.
    #[schema(required = false)]
    pub learning_rate_multiplier: Option<Value>,
}
