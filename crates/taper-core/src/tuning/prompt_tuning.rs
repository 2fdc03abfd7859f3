use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::fields::Fields;

/// Prompt tuning: trained vectors that stand in front of every input, as if they were words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct PromptTuning {
    /// Number of trained vectors.
    pub num_virtual_tokens: u64,
    /// Where the vectors start from.
    pub prompt_tuning_init: PromptInit,
    /// The words to start from, with `TEXT`.
    pub prompt_tuning_init_text: Option<String>,
}

/// Where the vectors of prompt tuning start from; the names are PEFT's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum PromptInit {
    /// A normal distribution with deviation 1, as PyTorch fills an embedding.
    #[serde(rename = "RANDOM")]
    Random,
    /// The embeddings of `prompt_tuning_init_text`, repeated or cut to the number of vectors.
    #[serde(rename = "TEXT")]
    Text,
    /// The embeddings of words drawn at random.
    #[serde(rename = "SAMPLE_VOCAB")]
    SampleVocab,
}

impl PromptInit {
    /// The name in the API and in PEFT's files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Random => "RANDOM",
            Self::Text => "TEXT",
            Self::SampleVocab => "SAMPLE_VOCAB",
        }
    }
}

impl Default for PromptTuning {
    fn default() -> Self {
        Self {
            num_virtual_tokens: 10,
            prompt_tuning_init: PromptInit::Random,
            prompt_tuning_init_text: None,
        }
    }
}

/// Bytes of `prompt_tuning_init_text`.
const LONGEST_TEXT: usize = 10_000;

impl PromptTuning {
    pub(crate) fn parse(fields: &mut Fields<'_>) -> Self {
        let default = Self::default();
        let inits = [
            PromptInit::Random,
            PromptInit::Text,
            PromptInit::SampleVocab,
        ];
        let init = fields.choice(
            "prompt_tuning_init",
            &inits.map(|init| (init.as_str(), init)),
        );
        let text = fields.string("prompt_tuning_init_text");
        let prompt_tuning_init = init.unwrap_or(default.prompt_tuning_init);
        let wanted = prompt_tuning_init == PromptInit::Text;
        if wanted && text.is_none_or(|text| text.trim().is_empty() || text.len() > LONGEST_TEXT) {
            fields.reject(
                "prompt_tuning_init_text",
                format_args!(
                    "must be a text of at most {LONGEST_TEXT} bytes with prompt_tuning_init TEXT"
                ),
            );
        }
        if !wanted && text.is_some() {
            fields.reject(
                "prompt_tuning_init_text",
                "goes with prompt_tuning_init TEXT only; leave it out",
            );
        }
        Self {
            num_virtual_tokens: fields
                .integer("num_virtual_tokens", 1..=10_000)
                .map_or(default.num_virtual_tokens, |n| n as u64),
            prompt_tuning_init,
            prompt_tuning_init_text: text.map(str::to_owned),
        }
    }
}
