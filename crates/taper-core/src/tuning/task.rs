use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
    pub const ALL: [Self; 2] = [Self::SeqCls, Self::CausalLm];

    /// The name in the API and in PEFT's files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SeqCls => "SEQ_CLS",
            Self::CausalLm => "CAUSAL_LM",
        }
    }

    /// What people call it.
    pub fn title(self) -> &'static str {
        match self {
            Self::SeqCls => "Text classification",
            Self::CausalLm => "Text generation",
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
