//! Adapters in PEFT's format: `adapter_config.json` and `adapter_model.safetensors` (the layout of PEFT 0.21).

use std::{fs, path::Path};

use candle_core::{Device, Tensor};
use serde_json::{Map, Value, json};
use taper_core::{Lora, Method, PromptTuning, TargetModules};

use super::{Export, write_json};
use crate::{
    Error, Result,
    error::Doing,
    methods::{LoraPlan, PROMPT, layer_of},
    model_folder::{Weights, write_safetensors},
    tasks::task,
};

/// Heads that PEFT saves with every sequence classifier.
const HEADS: [&str; 2] = ["classifier", "score"];
/// The file of an adapter's weights.
pub(crate) const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";
const PEFT_VERSION: &str = "0.21.2";

/// PEFT's name of a tensor of the tuned model. Virtual tokens have no prefix, and the heads beside them a shorter one.
fn stored_name(method: &Method, name: &str) -> String {
    match method {
        Method::PromptTuning(_) if name == PROMPT => name.to_owned(),
        Method::PromptTuning(_) => format!("base_model.{name}"),
        Method::Lora(_) | Method::Full | Method::Layerwise(_) => format!("base_model.model.{name}"),
    }
}

pub(super) fn write_adapter(export: &Export<'_>, dir: &Path) -> Result<()> {
    let method = &export.run.spec.tuning.method;
    let config = match method {
        Method::Lora(lora) => lora_config(export, lora)?,
        Method::PromptTuning(prompt) => prompt_config(export, prompt),
        Method::Full | Method::Layerwise(_) => {
            return Err(refuse(dir, "the method has no adapter"));
        }
    };
    write_json(&dir.join("adapter_config.json"), &config)?;
    let tensors = export.model.parameters.tensors();
    let tensors: Vec<_> = tensors
        .into_iter()
        .map(|(name, t)| (stored_name(method, &name), t))
        .collect();
    write_safetensors(&dir.join(ADAPTER_WEIGHTS), &tensors)
}

/// What PEFT calls `modules_to_save`: the heads of a classifier, and what the run trained beside them.
fn modules_to_save(export: &Export<'_>, asked: &[String]) -> Value {
    let heads = task(export.data.task).heads();
    let own = export
        .model
        .modules_to_save
        .iter()
        .chain(
            asked
                .iter()
                .filter(|module| !HEADS.contains(&module.as_str())),
        )
        .map(String::as_str);
    let modules: Vec<&str> = own.chain(heads.iter().copied()).collect();
    if modules.is_empty() {
        Value::Null
    } else {
        json!(modules)
    }
}

/// `adapter_config.json` as `LoraConfig.save_pretrained` writes it. Rank-stabilised scaling is written as plain LoRA with the alpha
/// that has the same effect, since other readers know only that.
fn lora_config(export: &Export<'_>, lora: &Lora) -> Result<Value> {
    let plan = LoraPlan::new(lora)?;
    let effective = |r: usize, alpha: f64| {
        if lora.use_rslora {
            alpha * (r as f64).sqrt()
        } else {
            alpha
        }
    };
    let default = effective(lora.r, lora.lora_alpha);
    let (mut ranks, mut alphas) = (Map::new(), Map::new());
    for path in &export.model.adapted {
        let Some(shape) = plan.adapter(path) else {
            continue;
        };
        if shape.r != lora.r {
            ranks.insert(path.clone(), json!(shape.r));
        }
        let alpha = effective(shape.r, shape.alpha);
        if alpha != default {
            alphas.insert(path.clone(), number(alpha));
        }
    }
    let targets = match &lora.target_modules {
        // PEFT takes no regular expression beside layers.
        Some(TargetModules::Pattern(word))
            if word == TargetModules::ALL_LINEAR || lora.layers_to_transform.is_some() =>
        {
            json!(export.model.adapted)
        }
        other => json!(other),
    };
    let pattern = lora
        .layers_to_transform
        .as_ref()
        .and_then(|_| layers_pattern(export.model.adapted.first()?));
    Ok(json!({
        "alora_invocation_tokens": null, "alpha_pattern": alphas, "arrow_config": null, "auto_mapping": null,
        "base_model_name_or_path": export.run.spec.model, "bias": lora.bias, "corda_config": null, "ensure_weight_tying": false,
        "eva_config": null, "exclude_modules": null, "fan_in_fan_out": export.folder().arch.is_conv1d(), "inference_mode": true,
        "init_lora_weights": true, "kasa_config": null, "layer_replication": null, "layers_pattern": pattern,
        "layers_to_transform": lora.layers_to_transform, "loftq_config": {}, "lora_alpha": number(default), "lora_bias": false,
        "lora_dropout": lora.lora_dropout, "lora_ga_config": null, "megatron_config": null, "megatron_core": "megatron.core",
        "modules_to_save": modules_to_save(export, lora.modules_to_save.as_deref().unwrap_or_default()), "monteclora_config": null,
        "peft_type": "LORA", "peft_version": PEFT_VERSION, "qalora_group_size": 16, "r": lora.r, "rank_pattern": ranks, "revision": null,
        "target_modules": targets, "target_parameters": null, "task_type": export.data.task.as_str(), "trainable_token_indices": null,
        "use_bdlora": null, "use_dora": false, "use_qalora": false, "use_rslora": false, "velora_config": null,
    }))
}

/// The word before the number of a layer in a path: `layers`, `layer` or `h`.
fn layers_pattern(path: &str) -> Option<&str> {
    let number = layer_of(path)?.to_string();
    let parts: Vec<&str> = path.split('.').collect();
    let place = parts.iter().position(|part| *part == number)?;
    parts.get(place.checked_sub(1)?).copied()
}

/// `adapter_config.json` as `PromptTuningConfig.save_pretrained` writes it.
fn prompt_config(export: &Export<'_>, prompt: &PromptTuning) -> Value {
    let arch = &export.folder().arch;
    // With the text PEFT also wants to know a tokenizer; while it only loads, it does not open it.
    let tokenizer = prompt
        .prompt_tuning_init_text
        .as_ref()
        .map(|_| &export.run.spec.model);
    json!({
        "auto_mapping": null, "base_model_name_or_path": export.run.spec.model, "inference_mode": true,
        "modules_to_save": modules_to_save(export, &[]), "num_attention_heads": arch.heads(), "num_layers": arch.layers(),
        "num_transformer_submodules": 1, "num_virtual_tokens": prompt.num_virtual_tokens, "peft_type": "PROMPT_TUNING",
        "peft_version": PEFT_VERSION, "prompt_tuning_init": prompt.prompt_tuning_init.as_str(),
        "prompt_tuning_init_text": prompt.prompt_tuning_init_text, "revision": null, "task_type": export.data.task.as_str(),
        "token_dim": arch.hidden_size(), "tokenizer_kwargs": null, "tokenizer_name_or_path": tokenizer,
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

fn refuse(dir: &Path, reason: impl Into<String>) -> Error {
    let (name, reason) = (dir.file_name().unwrap_or_default(), reason.into());
    Error::model(format!(
        "the adapter in {} cannot be used: {reason}",
        name.to_string_lossy()
    ))
}

/// Reads an adapter that PEFT or taper wrote: the method with its settings, and its tensors under the names of the trained parameters.
///
/// # Errors
/// A folder without an adapter, a kind of adapter that is not supported.
pub(crate) fn read_adapter(dir: &Path) -> Result<(Method, Vec<(String, Tensor)>)> {
    let text = fs::read_to_string(dir.join("adapter_config.json"))
        .doing(|| "cannot read adapter_config.json".to_owned())?;
    let config: Value = serde_json::from_str(&text)?;
    let method = match config.get("peft_type").and_then(Value::as_str) {
        Some("LORA") => Method::Lora(read_lora(dir, &config)?),
        Some("PROMPT_TUNING") => Method::PromptTuning(PromptTuning {
            num_virtual_tokens: config
                .get("num_virtual_tokens")
                .and_then(Value::as_u64)
                .unwrap_or_default(),
            ..PromptTuning::default()
        }),
        other => {
            return Err(refuse(
                dir,
                format!(
                    "the adapter type {} is not supported",
                    other.unwrap_or("(none)")
                ),
            ));
        }
    };
    let weights = Weights::open(&dir.join(ADAPTER_WEIGHTS))?;
    let mut tensors = Vec::new();
    for stored in weights.names() {
        let prefixes = ["base_model.model.", "base_model.", ""];
        let name = prefixes
            .iter()
            .find_map(|prefix| stored.strip_prefix(prefix))
            .filter(|name| stored == stored_name(&method, name));
        let name = name.ok_or_else(|| {
            refuse(
                dir,
                format!("the tensor {stored} has no place in the base model"),
            )
        })?;
        tensors.push((name.to_owned(), weights.get(stored, &Device::Cpu)?));
    }
    Ok((method, tensors))
}

fn read_lora(dir: &Path, config: &Value) -> Result<Lora> {
    for (key, what) in [("use_dora", "DoRA"), ("lora_bias", "a bias in the adapter")] {
        if config.get(key).and_then(Value::as_bool) == Some(true) {
            return Err(refuse(dir, format!("{what} is not supported")));
        }
    }
    if config
        .get("bias")
        .and_then(Value::as_str)
        .is_some_and(|bias| bias != "none")
    {
        return Err(refuse(dir, "trained biases are not supported"));
    }
    let number =
        |key: &str, default: f64| config.get(key).and_then(Value::as_f64).unwrap_or(default);
    fn read<T: serde::de::DeserializeOwned>(config: &Value, key: &str) -> Option<T> {
        serde_json::from_value(config.get(key)?.clone()).ok()
    }
    let targets =
        read(config, "target_modules").ok_or_else(|| refuse(dir, "it has no target_modules"))?;
    let saved: Option<Vec<String>> = read(config, "modules_to_save");
    let asked = saved.map(|modules| {
        modules
            .into_iter()
            .filter(|m| !HEADS.contains(&m.as_str()))
            .collect::<Vec<_>>()
    });
    Ok(Lora {
        r: number("r", 8.0) as usize,
        lora_alpha: number("lora_alpha", 8.0),
        lora_dropout: number("lora_dropout", 0.0),
        target_modules: Some(targets),
        bias: "none".to_owned(),
        use_rslora: config
            .get("use_rslora")
            .and_then(Value::as_bool)
            .unwrap_or(false),
        rank_pattern: read(config, "rank_pattern").unwrap_or_default(),
        alpha_pattern: read(config, "alpha_pattern").unwrap_or_default(),
        layers_to_transform: read(config, "layers_to_transform"),
        modules_to_save: asked.filter(|modules| !modules.is_empty()),
        loraplus_lr_ratio: None,
    })
}
