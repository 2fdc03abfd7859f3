//! Mistral: Llama, but each layer sees through a sliding window.

use serde_json::Value;

use super::{
    Arch, Description, Family,
    decoder::Window,
    llama::{LlamaFields, MODULES, TARGET_MODULES},
    read_fields,
};
use crate::Result;

pub(super) const DESCRIPTION: Description = Description {
    model_type: "mistral",
    class_prefix: "Mistral",
    causal_lm_class: Some("MistralForCausalLM"),
    target_modules: TARGET_MODULES,
    read,
    #[cfg(test)]
    golden: &["mistral"],
};

fn read(config: &Value) -> Result<Arch> {
    let fields: LlamaFields = read_fields(config)?;
    let window = fields.sliding_window.map(|tokens| Window {
        tokens,
        from_layer: 0,
    });
    let mut decoder = fields.decoder(Family::Mistral, &MODULES, config)?;
    decoder.options.window = window;
    Ok(Arch::Decoder(decoder.checked()?))
}
