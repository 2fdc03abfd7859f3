use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Descriptor, Label, Produces, TaskType, TuningMethod};
use crate::{
    fields::Fields,
    settings::{Limits, SettingType, Text, settings},
};

settings! {
    /// Prompt tuning: trained vectors that stand in front of every input, as if they were words.
    pub struct PromptTuning {
        /// Number of trained vectors.
        num_virtual_tokens: u64 = 10, 1..=10_000, common, shapes_weights;
        /// Where the vectors start from.
        prompt_tuning_init: PromptInit = PromptInit::Random, (), common;
        /// The words to start from, with `TEXT`.
        prompt_tuning_init_text: Option<String> = None, Text::Any, common;
    }
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
    const WORDS: [(&'static str, Self); 3] = [
        ("RANDOM", Self::Random),
        ("TEXT", Self::Text),
        ("SAMPLE_VOCAB", Self::SampleVocab),
    ];

    /// The name in the API and in PEFT's files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Random => "RANDOM",
            Self::Text => "TEXT",
            Self::SampleVocab => "SAMPLE_VOCAB",
        }
    }
}

impl SettingType for PromptInit {
    type Range = ();

    fn read(fields: &mut Fields<'_>, name: &'static str, (): &()) -> Option<Self> {
        fields.choice(name, &Self::WORDS)
    }

    fn limits((): &()) -> Limits {
        Limits::words(Self::WORDS.iter().map(|(word, _)| word))
    }
}

/// Bytes of `prompt_tuning_init_text`.
const LONGEST_TEXT: usize = 10_000;

impl TuningMethod for PromptTuning {
    fn descriptor(&self) -> Descriptor {
        Descriptor {
            name: "prompt_tuning",
            title: "Prompt tuning",
            description: "Trained vectors in front of the input of a frozen model.",
            produces: Produces::Adapter,
        }
    }

    fn default_learning_rate(&self, _: TaskType) -> f64 {
        1e-2
    }

    fn virtual_tokens(&self) -> u64 {
        self.num_virtual_tokens
    }

    fn label(&self) -> Label {
        Label {
            text: format!("prompt tuning of {} tokens", self.num_virtual_tokens),
            setting: Some("num_virtual_tokens"),
        }
    }

    fn check(&self, fields: &mut Fields<'_>) {
        let text = self.prompt_tuning_init_text.as_deref();
        let wanted = self.prompt_tuning_init == PromptInit::Text;
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
    }
}
