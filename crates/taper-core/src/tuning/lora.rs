use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::fields::Fields;

/// LoRA: beside a frozen weight `W` a trained product `B·A` of rank `r`, `y = W·x + lora_alpha/r · B·(A·x)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Lora {
    /// Rank of the adapters.
    pub r: usize,
    /// Scale: the adapter's output is multiplied by `lora_alpha / r`.
    pub lora_alpha: f64,
    /// Dropout on the adapter's input while training.
    pub lora_dropout: f64,
    /// Linear layers that get an adapter, by exact name or by suffix after a dot; absent = the usual ones of the model's family.
    pub target_modules: Option<Vec<String>>,
    /// Which biases are trained; only `none`.
    pub bias: String,
}

impl Default for Lora {
    fn default() -> Self {
        Self {
            r: 8,
            lora_alpha: 16.0,
            lora_dropout: 0.1,
            target_modules: None,
            bias: "none".to_owned(),
        }
    }
}

impl Lora {
    pub(crate) fn parse(fields: &mut Fields<'_>) -> Self {
        let default = Self::default();
        Self {
            r: fields
                .integer("r", 1..=4096)
                .map_or(default.r, |r| r as usize),
            lora_alpha: fields
                .number("lora_alpha", "greater than 0", |x| x > 0.0 && x < 1e6)
                .unwrap_or(default.lora_alpha),
            lora_dropout: fields
                .number("lora_dropout", "from 0 to below 1", |x| {
                    (0.0..1.0).contains(&x)
                })
                .unwrap_or(default.lora_dropout),
            target_modules: target_modules(fields),
            bias: fields
                .choice("bias", &[("none", "none")])
                .unwrap_or("none")
                .to_owned(),
        }
    }
}

fn target_modules(fields: &mut Fields<'_>) -> Option<Vec<String>> {
    let value = fields.value("target_modules")?;
    let names: Option<Vec<String>> = value.as_array().map(|list| {
        list.iter()
            .filter_map(|n| n.as_str())
            .filter(|n| !n.is_empty())
            .map(str::to_owned)
            .collect()
    });
    let whole = value.as_array().map_or(0, Vec::len);
    match names {
        Some(names) if !names.is_empty() && names.len() == whole && whole <= 1000 => Some(names),
        _ => {
            fields.reject(
                "target_modules",
                "must be a list of 1 to 1000 module names, for instance [\"query\", \"value\"]",
            );
            None
        }
    }
}
