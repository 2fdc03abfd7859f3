//! Qwen3: Llama with norms of queries and keys, head by head.

use serde_json::Value;

use super::{
    Arch, AttentionModules, DecoderModules, Description, Family,
    llama::{self, LlamaFields, TARGET_MODULES},
    read_fields,
};
use crate::Result;

pub(super) const DESCRIPTION: Description = Description {
    model_type: "qwen3",
    class_prefix: "Qwen3",
    causal_lm_class: Some("Qwen3ForCausalLM"),
    target_modules: TARGET_MODULES,
    read,
    #[cfg(test)]
    golden: &["qwen3"],
};

const MODULES: DecoderModules = DecoderModules {
    attention: AttentionModules::Separate {
        query: "self_attn.q_proj",
        key: "self_attn.k_proj",
        value: "self_attn.v_proj",
        output: "self_attn.o_proj",
        head_norms: Some(["self_attn.q_norm", "self_attn.k_norm"]),
    },
    ..llama::MODULES
};

fn read(config: &Value) -> Result<Arch> {
    let fields: LlamaFields = read_fields(config)?;
    let decoder = fields.decoder(Family::Qwen3, &MODULES, config)?;
    Ok(Arch::Decoder(decoder.checked()?))
}
