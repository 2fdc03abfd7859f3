//! A LoRA adapter in PEFT's format: `adapter_config.json` and `adapter_model.safetensors` (the layout of PEFT 0.21).

use std::{fs, path::Path};

use candle_core::{Device, Tensor};
use serde_json::{Value, json};
use taper_core::{Lora, Method};

use super::{Export, write_json};
use crate::{
    Error, Result,
    checkpoint::{Weights, write_safetensors},
    error::Doing,
};

/// PEFT's name of the wrapper around the base model.
const PREFIX: &str = "base_model.model.";
/// Heads that PEFT saves with every sequence classifier.
const HEADS: [&str; 2] = ["classifier", "score"];

pub(super) fn write_adapter(export: &Export<'_>, dir: &Path) -> Result<()> {
    let Method::Lora(lora) = &export.run.spec.tuning.method else {
        return Err(Error::Checkpoint {
            dir: dir.display().to_string(),
            reason: "the method has no adapter".to_owned(),
        });
    };
    let config = config(lora, &export.run.spec.model, &export.model.modules_to_save);
    write_json(&dir.join("adapter_config.json"), &config)?;
    let tensors: Vec<_> = export
        .model
        .parameters
        .tensors()
        .into_iter()
        .map(|(name, t)| (format!("{PREFIX}{name}"), t))
        .collect();
    write_safetensors(&dir.join("adapter_model.safetensors"), &tensors)
}

/// `adapter_config.json` as `LoraConfig.save_pretrained` writes it.
fn config(lora: &Lora, base: &str, modules_to_save: &[String]) -> Value {
    let modules_to_save: Vec<&str> = modules_to_save
        .iter()
        .map(String::as_str)
        .chain(HEADS)
        .collect();
    json!({
        "alpha_pattern": {}, "auto_mapping": null, "base_model_name_or_path": base, "bias": lora.bias, "fan_in_fan_out": false,
        "inference_mode": true, "init_lora_weights": true, "layer_replication": null, "layers_pattern": null,
        "layers_to_transform": null, "loftq_config": {}, "lora_alpha": number(lora.lora_alpha), "lora_bias": false,
        "lora_dropout": lora.lora_dropout, "megatron_config": null, "megatron_core": "megatron.core",
        "modules_to_save": modules_to_save, "peft_type": "LORA", "peft_version": "0.21.2", "r": lora.r, "rank_pattern": {},
        "revision": null, "target_modules": lora.target_modules, "target_parameters": null, "task_type": "SEQ_CLS",
        "trainable_token_indices": null, "use_dora": false, "use_rslora": false,
    })
}

/// A whole number without a fraction, as Python writes an integer.
fn number(x: f64) -> Value {
    if x.fract() == 0.0 {
        Value::from(x as i64)
    } else {
        Value::from(x)
    }
}

/// Reads an adapter that PEFT or taper wrote: its LoRA settings and its tensors by the name of the module in the base model.
///
/// # Errors
/// A folder without an adapter, a kind of adapter that is not supported.
pub(crate) fn read_adapter(dir: &Path) -> Result<(Lora, Vec<(String, Tensor)>)> {
    let refuse = |reason: String| Error::Checkpoint {
        dir: dir.display().to_string(),
        reason,
    };
    let text = fs::read_to_string(dir.join("adapter_config.json"))
        .doing(|| "cannot read adapter_config.json".to_owned())?;
    let config: Value = serde_json::from_str(&text)?;
    let text_of = |key: &str| config.get(key).and_then(Value::as_str);
    match text_of("peft_type") {
        Some("LORA") => {}
        other => {
            return Err(refuse(format!(
                "the adapter type {} is not supported",
                other.unwrap_or("(none)")
            )));
        }
    }
    for (key, what) in [
        ("use_dora", "DoRA"),
        ("use_rslora", "rank-stabilised scaling"),
        ("fan_in_fan_out", "Conv1D layers"),
    ] {
        if config.get(key).and_then(Value::as_bool) == Some(true) {
            return Err(refuse(format!("{what} is not supported")));
        }
    }
    if text_of("bias").is_some_and(|bias| bias != "none") {
        return Err(refuse("trained biases are not supported".to_owned()));
    }
    let number =
        |key: &str, default: f64| config.get(key).and_then(Value::as_f64).unwrap_or(default);
    let target_modules = config
        .get("target_modules")
        .and_then(|v| serde_json::from_value(v.clone()).ok());
    let lora = Lora {
        r: number("r", 8.0) as usize,
        lora_alpha: number("lora_alpha", 8.0),
        lora_dropout: number("lora_dropout", 0.0),
        target_modules: Some(
            target_modules.ok_or_else(|| refuse("target_modules is not a list".to_owned()))?,
        ),
        bias: "none".to_owned(),
    };
    let weights = Weights::open(&dir.join("adapter_model.safetensors"))?;
    let mut tensors = Vec::new();
    for stored in weights.shapes()?.into_keys() {
        let name = stored.strip_prefix(PREFIX).ok_or_else(|| {
            refuse(format!(
                "the tensor {stored} has no place in the base model"
            ))
        })?;
        tensors.push((name.to_owned(), weights.get(&stored, &Device::Cpu)?));
    }
    Ok((lora, tensors))
}
