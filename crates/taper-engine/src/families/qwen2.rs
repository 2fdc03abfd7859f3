//! Qwen2: Llama with biases at query, key and value.

use serde_json::Value;

use super::{
    Arch, Description, Family,
    llama::{LlamaFields, MODULES, TARGET_MODULES},
    read_fields,
};
use crate::Result;

pub(super) const DESCRIPTION: Description = Description {
    model_type: "qwen2",
    class_prefix: "Qwen2",
    causal_lm_class: Some("Qwen2ForCausalLM"),
    target_modules: TARGET_MODULES,
    read,
    #[cfg(test)]
    golden: &["qwen2"],
};

fn read(config: &Value) -> Result<Arch> {
    let fields: LlamaFields = read_fields(config)?;
    let mut decoder = fields.decoder(Family::Qwen2, &MODULES, config)?;
    // Whatever `attention_bias` says: transformers does not look at it here.
    decoder.options.qkv_bias = true;
    decoder.options.output_bias = false;
    Ok(Arch::Decoder(decoder.checked()?))
}
