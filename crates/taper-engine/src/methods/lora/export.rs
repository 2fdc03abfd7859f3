//! LoRA's export: the settings in `adapter_config.json` as PEFT has them, written and read.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use taper_core::{Lora, Method, TargetModules};

use super::LoraTuner;
use crate::methods::{
    layer_of,
    peft::{AdapterFormat, Exported, HEADS, number},
};

impl AdapterFormat for LoraTuner<'_> {
    fn peft_type(&self) -> &'static str {
        "LORA"
    }

    fn config(&self, exported: &Exported<'_>) -> Value {
        let lora = self.lora;
        let targets = match &lora.target_modules {
            // PEFT takes no regular expression beside layers.
            Some(TargetModules::Pattern(word))
                if word == TargetModules::ALL_LINEAR || lora.layers_to_transform.is_some() =>
            {
                json!(exported.adapted)
            }
            other => json!(other),
        };
        let asked = lora.modules_to_save.as_deref().unwrap_or_default();
        let mut config = json!({
            "base_model_name_or_path": exported.base_model, "bias": lora.bias, "fan_in_fan_out": exported.arch.is_conv1d(),
            "inference_mode": true, "lora_alpha": number(lora.lora_alpha), "lora_dropout": lora.lora_dropout,
            "modules_to_save": exported.modules_to_save(asked), "peft_type": self.peft_type(), "r": lora.r,
            "target_modules": targets, "task_type": exported.task.as_str(),
        });
        let (ranks, alphas) = self.patterns(exported.adapted);
        if !ranks.is_empty() {
            config["rank_pattern"] = Value::Object(ranks);
        }
        if !alphas.is_empty() {
            config["alpha_pattern"] = Value::Object(alphas);
        }
        if lora.use_rslora {
            config["use_rslora"] = json!(true);
        }
        if let Some(layers) = &lora.layers_to_transform {
            config["layers_to_transform"] = json!(layers);
            config["layers_pattern"] =
                json!(exported.adapted.first().and_then(|p| layers_pattern(p)));
        }
        config
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

impl LoraTuner<'_> {
    /// Ranks and alphas of the layers that have others than the rest, by whole paths.
    fn patterns(&self, adapted: &[String]) -> (Map<String, Value>, Map<String, Value>) {
        let (mut ranks, mut alphas) = (Map::new(), Map::new());
        for path in adapted {
            let Some(shape) = self.shape(path) else {
                continue;
            };
            if shape.r != self.lora.r {
                ranks.insert(path.clone(), json!(shape.r));
            }
            if shape.alpha != self.lora.lora_alpha {
                alphas.insert(path.clone(), number(shape.alpha));
            }
        }
        (ranks, alphas)
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
