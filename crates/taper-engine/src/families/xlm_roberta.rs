//! XLM-RoBERTa: RoBERTa with another tokenizer, under another name.

use super::{Description, Family, bert, roberta};

pub(super) const DESCRIPTION: Description = Description {
    model_type: "xlm-roberta",
    class_prefix: "XLMRoberta",
    causal_lm_class: None,
    target_modules: bert::TARGET_MODULES,
    read: |config| roberta::read(Family::XlmRoberta, config),
    #[cfg(test)]
    golden: &["xlm-roberta"],
};
