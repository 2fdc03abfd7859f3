//! LoRA's export: the settings in `adapter_config.json` as PEFT has them, written and read.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use taper_core::{Lora, Method, TargetModules};

use super::LoraTuner;
use crate::methods::{
    layer_of,
    peft::{AdapterFormat, Exported, HEADS, PEFT_VERSION, number},
};

impl AdapterFormat for LoraTuner<'_> {
    fn peft_type(&self) -> &'static str {
        "LORA"
    }

    /// Rank-stabilised scaling is written as plain LoRA with the alpha that has the same effect, since other readers know only that.
    fn config(&self, exported: &Exported<'_>) -> Value {
        let lora = self.lora;
        let default = self.effective_alpha(lora.r, lora.lora_alpha);
        let (mut ranks, mut alphas) = (Map::new(), Map::new());
        for path in exported.adapted {
            let Some(shape) = self.shape(path) else {
                continue;
            };
            if shape.r != lora.r {
                ranks.insert(path.clone(), json!(shape.r));
            }
            let alpha = self.effective_alpha(shape.r, shape.alpha);
            if alpha != default {
                alphas.insert(path.clone(), number(alpha));
            }
        }
        let targets = match &lora.target_modules {
            // PEFT takes no regular expression beside layers.
            Some(TargetModules::Pattern(word))
                if word == TargetModules::ALL_LINEAR || lora.layers_to_transform.is_some() =>
            {
                json!(exported.adapted)
            }
            other => json!(other),
        };
        let layers = lora.layers_to_transform.as_ref();
        let pattern = layers.and_then(|_| layers_pattern(exported.adapted.first()?));
        let asked = lora.modules_to_save.as_deref().unwrap_or_default();
        json!({
            "alora_invocation_tokens": null, "alpha_pattern": alphas, "arrow_config": null, "auto_mapping": null,
            "base_model_name_or_path": exported.base_model, "bias": lora.bias, "corda_config": null, "ensure_weight_tying": false,
            "eva_config": null, "exclude_modules": null, "fan_in_fan_out": exported.arch.is_conv1d(), "inference_mode": true,
            "init_lora_weights": true, "kasa_config": null, "layer_replication": null, "layers_pattern": pattern,
            "layers_to_transform": lora.layers_to_transform, "loftq_config": {}, "lora_alpha": number(default), "lora_bias": false,
            "lora_dropout": lora.lora_dropout, "lora_ga_config": null, "megatron_config": null, "megatron_core": "megatron.core",
            "modules_to_save": exported.modules_to_save(asked), "monteclora_config": null,
            "peft_type": self.peft_type(), "peft_version": PEFT_VERSION, "qalora_group_size": 16, "r": lora.r, "rank_pattern": ranks, "revision": null,
            "target_modules": targets, "target_parameters": null, "task_type": exported.task.as_str(), "trainable_token_indices": null,
            "use_bdlora": null, "use_dora": false, "use_qalora": false, "use_rslora": false, "velora_config": null,
        })
    }

    fn read(&self, config: &Value) -> Result<Method, String> {
        for (key, what) in [("use_dora", "DoRA"), ("lora_bias", "a bias in the adapter")] {
            if config.get(key).and_then(Value::as_bool) == Some(true) {
                return Err(format!("{what} is not supported"));
            }
        }
        let bias = config.get("bias").and_then(Value::as_str);
        if bias.is_some_and(|bias| bias != "none") {
            return Err("trained biases are not supported".to_owned());
        }
        let number =
            |key: &str, default: f64| config.get(key).and_then(Value::as_f64).unwrap_or(default);
        let targets = field(config, "target_modules").ok_or("it has no target_modules")?;
        let saved: Option<Vec<String>> = field(config, "modules_to_save");
        let asked = saved.map(|modules| {
            let asked = modules.into_iter().filter(|m| !HEADS.contains(&m.as_str()));
            asked.collect::<Vec<_>>()
        });
        let rslora = config.get("use_rslora").and_then(Value::as_bool);
        Ok(Method::Lora(Lora {
            r: number("r", 8.0) as usize,
            lora_alpha: number("lora_alpha", 8.0),
            lora_dropout: number("lora_dropout", 0.0),
            target_modules: Some(targets),
            use_rslora: rslora.unwrap_or(false),
            rank_pattern: field(config, "rank_pattern").unwrap_or_default(),
            alpha_pattern: field(config, "alpha_pattern").unwrap_or_default(),
            layers_to_transform: field(config, "layers_to_transform"),
            modules_to_save: asked.filter(|modules| !modules.is_empty()),
            ..Lora::default()
        }))
    }
}

fn field<T: DeserializeOwned>(config: &Value, key: &str) -> Option<T> {
    serde_json::from_value(config.get(key)?.clone()).ok()
}

/// The word before the number of a layer in a path: `layers`, `layer` or `h`.
fn layers_pattern(path: &str) -> Option<&str> {
    let number = layer_of(path)?.to_string();
    let parts: Vec<&str> = path.split('.').collect();
    let place = parts.iter().position(|part| *part == number)?;
    parts.get(place.checked_sub(1)?).copied()
}
