use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{LONGEST_NAME, MOST_NAMES};
use crate::fields::Fields;

/// LoRA: beside a frozen weight `W` a trained product `B·A` of rank `r`, `y = W·x + scale · B·(A·x)` with `scale` =
/// `lora_alpha / r`, or `lora_alpha / √r` with `use_rslora`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Lora {
    /// Rank of the adapters.
    pub r: usize,
    pub lora_alpha: f64,
    /// Dropout on the adapter's input while training.
    pub lora_dropout: f64,
    /// Linear layers that get an adapter; absent = the usual ones of the model's family.
    pub target_modules: Option<TargetModules>,
    /// Which biases are trained; only `none`.
    pub bias: String,
    /// Rank-stabilised scaling; exported as plain LoRA with the alpha that has the same effect.
    pub use_rslora: bool,
    /// Other ranks, by module name or regular expression on its end.
    pub rank_pattern: BTreeMap<String, usize>,
    /// Other alphas, likewise.
    pub alpha_pattern: BTreeMap<String, f64>,
    /// Numbers of the layers that get adapters; absent = all.
    pub layers_to_transform: Option<Vec<usize>>,
    /// Modules of the base that are trained whole and saved with the adapter.
    pub modules_to_save: Option<Vec<String>>,
    /// LoRA+: the learning rate of B is this many times that of A.
    pub loraplus_lr_ratio: Option<f64>,
}

/// Which linear layers get an adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum TargetModules {
    /// By exact path, or by suffix of the path after a dot.
    Names(Vec<String>),
    /// `all-linear`, or a regular expression on the whole path.
    Pattern(String),
}

impl TargetModules {
    /// The word for every linear layer but the head.
    pub const ALL_LINEAR: &'static str = "all-linear";
}

impl Default for Lora {
    fn default() -> Self {
        Self {
            r: 8,
            lora_alpha: 16.0,
            lora_dropout: 0.1,
            target_modules: None,
            bias: "none".to_owned(),
            use_rslora: false,
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
            layers_to_transform: None,
            modules_to_save: None,
            loraplus_lr_ratio: None,
        }
    }
}

const LARGEST_RANK: i64 = 4096;
/// Bytes of a regular expression on the whole path.
const LONGEST_PATTERN: usize = 1000;
/// Numbers of layers in `layers_to_transform`.
const MOST_LAYERS: usize = 1000;

fn is_alpha(x: f64) -> bool {
    x > 0.0 && x < 1e6
}

impl Lora {
    pub(crate) fn parse(fields: &mut Fields<'_>) -> Self {
        let default = Self::default();
        let whole = |x: f64| x >= 1.0 && x <= LARGEST_RANK as f64 && x.fract() == 0.0;
        let ranks = pattern(
            fields,
            "rank_pattern",
            "ranks (whole numbers from 1 to 4096)",
            whole,
        );
        Self {
            r: fields
                .integer("r", 1..=LARGEST_RANK)
                .map_or(default.r, |r| r as usize),
            lora_alpha: fields
                .number("lora_alpha", "greater than 0", is_alpha)
                .unwrap_or(default.lora_alpha),
            lora_dropout: fields
                // Training has it in f32, which rounds what is just below 1 to it.
                .number("lora_dropout", "from 0 to below 1", |x| {
                    x >= 0.0 && (x as f32) < 1.0
                })
                .unwrap_or(default.lora_dropout),
            target_modules: target_modules(fields),
            bias: fields
                .choice("bias", &[("none", "none")])
                .unwrap_or("none")
                .to_owned(),
            use_rslora: fields.boolean("use_rslora").unwrap_or(false),
            rank_pattern: ranks
                .into_iter()
                .map(|(key, r)| (key, r as usize))
                .collect(),
            alpha_pattern: pattern(
                fields,
                "alpha_pattern",
                "alphas (numbers greater than 0)",
                is_alpha,
            ),
            layers_to_transform: layers(fields),
            modules_to_save: names(fields, "modules_to_save"),
            loraplus_lr_ratio: fields.number("loraplus_lr_ratio", "from 1 to 1000", |x| {
                (1.0..=1000.0).contains(&x)
            }),
        }
    }
}

fn target_modules(fields: &mut Fields<'_>) -> Option<TargetModules> {
    let value = fields.value("target_modules")?;
    if let Some(pattern) = value
        .as_str()
        .filter(|p| !p.is_empty() && p.len() <= LONGEST_PATTERN)
    {
        return Some(TargetModules::Pattern(pattern.to_owned()));
    }
    let names = list_of_names(value);
    if names.is_none() {
        fields.reject(
            "target_modules",
            format_args!(
                "must be a list of 1 to {MOST_NAMES} module names of at most {LONGEST_NAME} bytes, for instance [\"query\", \"value\"], \"all-linear\", or a regular expression of at most {LONGEST_PATTERN} bytes"
            ),
        );
    }
    names.map(TargetModules::Names)
}

fn names(fields: &mut Fields<'_>, name: &'static str) -> Option<Vec<String>> {
    let value = fields.value(name)?;
    let names = list_of_names(value);
    if names.is_none() {
        fields.reject(
            name,
            format_args!(
                "must be a list of 1 to {MOST_NAMES} module names of at most {LONGEST_NAME} bytes"
            ),
        );
    }
    names
}

fn list_of_names(value: &serde_json::Value) -> Option<Vec<String>> {
    let list = value
        .as_array()
        .filter(|list| (1..=MOST_NAMES).contains(&list.len()))?;
    let is_name = |name: &&str| (1..=LONGEST_NAME).contains(&name.len());
    let name = |n: &serde_json::Value| n.as_str().filter(is_name).map(str::to_owned);
    list.iter().map(name).collect()
}

fn layers(fields: &mut Fields<'_>) -> Option<Vec<usize>> {
    let value = fields.value("layers_to_transform")?;
    let number = |n: &serde_json::Value| n.as_u64().filter(|n| *n < 100_000).map(|n| n as usize);
    let layers: Option<Vec<usize>> = match value.as_array() {
        Some(list) if (1..=MOST_LAYERS).contains(&list.len()) => list.iter().map(number).collect(),
        Some(_) => None,
        None => number(value).map(|n| vec![n]),
    };
    if layers.is_none() {
        fields.reject(
            "layers_to_transform",
            format_args!(
                "must be the number of a layer, or a list of 1 to {MOST_LAYERS} such numbers"
            ),
        );
    }
    layers
}

fn pattern(
    fields: &mut Fields<'_>,
    name: &'static str,
    what: &str,
    holds: impl Fn(f64) -> bool,
) -> BTreeMap<String, f64> {
    let Some(object) = fields.object(name) else {
        return BTreeMap::new();
    };
    let entry = |(key, value): (&String, &serde_json::Value)| {
        let value = value.as_f64().filter(|x| holds(*x))?;
        (key.len() <= LONGEST_NAME).then(|| (key.clone(), value))
    };
    let pairs: BTreeMap<String, f64> = object.iter().filter_map(entry).collect();
    if pairs.len() < object.len() || pairs.len() > MOST_NAMES {
        fields.reject(
            name,
            format_args!(
                "takes at most {MOST_NAMES} pairs of a module name of at most {LONGEST_NAME} bytes and {what}"
            ),
        );
    }
    pairs
}
