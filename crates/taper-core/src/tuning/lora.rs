use std::{collections::BTreeMap, ops::Bound};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{Descriptor, Label, Produces, TaskType, TuningMethod};
use crate::{
    Defaults,
    fields::Fields,
    settings::{
        LONGEST_NAME, Limits, MOST_NAMES, Numbers, Pairs, SettingKind, SettingType, Text, settings,
    },
};

settings! {
    /// LoRA: beside a frozen weight `W` a trained product `B·A` of rank `r`, `y = W·x + scale · B·(A·x)` with `scale` =
    /// `lora_alpha / r`, or `lora_alpha / √r` with `use_rslora`.
    pub struct Lora {
        /// Rank of the adapters.
        r: usize = 8, 1..=LARGEST_RANK, common, shapes_weights;
        /// Strength of the adapters: what they add is multiplied by `lora_alpha / r`.
        lora_alpha: f64 = 16.0, ALPHA, common, shapes_weights;
        /// Dropout on the adapter's input while training.
        lora_dropout: f64 = 0.1, DROPOUT, common;
        /// Linear layers that get an adapter; absent = the usual ones of the model's family.
        target_modules: Option<TargetModules> = None, (), common, shapes_weights;
        /// Which biases are trained; only `none`.
        bias: String = "none".to_owned(), Text::OneOf(&[("none", "none")]), advanced;
        /// Rank-stabilised scaling: what the adapters add is multiplied by `lora_alpha / √r`.
        use_rslora: bool = false, (), advanced, shapes_weights;
        /// Other ranks, by module name or regular expression on its end.
        rank_pattern: BTreeMap<String, usize> = BTreeMap::new(), RANKS, advanced, shapes_weights;
        /// Other alphas, likewise.
        alpha_pattern: BTreeMap<String, f64> = BTreeMap::new(), ALPHAS, advanced, shapes_weights;
        /// Numbers of the layers that get adapters; absent = all.
        layers_to_transform: Option<Vec<usize>> = None, (), advanced, shapes_weights;
        /// Modules of the base that are trained whole and saved with the adapter.
        modules_to_save: Option<Vec<String>> = None, (), advanced, shapes_weights;
        /// LoRA+: the learning rate of B is this many times that of A.
        loraplus_lr_ratio: Option<f64> = None, RATIO, advanced;
    }
}

const LARGEST_RANK: i64 = 4096;
/// Bytes of a regular expression on the whole path.
const LONGEST_PATTERN: usize = 1000;
/// Numbers of layers in `layers_to_transform`.
const MOST_LAYERS: usize = 1000;

const LARGEST_ALPHA: f64 = 1e6;
const ALPHA: Numbers = Numbers::new(
    "greater than 0",
    Bound::Excluded(0.0),
    Bound::Excluded(LARGEST_ALPHA),
);
/// Training has it in f32, which rounds what is just below 1 to it.
const DROPOUT: Numbers = Numbers::new(
    "from 0 to below 1",
    Bound::Included(0.0),
    Bound::Excluded(1.0),
)
.in_f32();
const RATIO: Numbers = Numbers::new(
    "from 1 to 1000",
    Bound::Included(1.0),
    Bound::Included(1000.0),
);

const RANKS: Pairs = Pairs {
    keys: "a module name",
    of: "",
    values: "ranks (whole numbers from 1 to 4096)",
    holds: |r| r >= 1.0 && r <= LARGEST_RANK as f64 && r.fract() == 0.0,
};
const ALPHAS: Pairs = Pairs {
    keys: "a module name",
    of: "",
    values: "alphas (numbers greater than 0)",
    holds: |alpha| alpha > 0.0 && alpha < LARGEST_ALPHA,
};

impl TuningMethod for Lora {
    fn descriptor(&self) -> Descriptor {
        Descriptor {
            name: "lora",
            title: "LoRA",
            description: "Low-rank adapters beside frozen weights.",
            produces: Produces::Adapter,
        }
    }

    fn default_learning_rate(&self, task: TaskType) -> f64 {
        match task {
            TaskType::SeqCls => 1e-3,
            TaskType::CausalLm => 2e-4,
        }
    }

    fn label(&self) -> Label {
        Label {
            text: format!("LoRA r={}", self.r),
            setting: Some("r"),
        }
    }

    fn resolve(&mut self, defaults: &Defaults) {
        self.target_modules
            .get_or_insert_with(|| TargetModules::Names(defaults.target_modules.clone()));
    }
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

impl SettingType for TargetModules {
    type Range = ();

    fn read(fields: &mut Fields<'_>, name: &'static str, (): &()) -> Option<Self> {
        let value = fields.value(name)?;
        if let Some(pattern) = value
            .as_str()
            .filter(|p| !p.is_empty() && p.len() <= LONGEST_PATTERN)
        {
            return Some(Self::Pattern(pattern.to_owned()));
        }
        let names = list_of_names(value);
        if names.is_none() {
            fields.reject(
                name,
                format_args!(
                    "must be a list of 1 to {MOST_NAMES} module names of at most {LONGEST_NAME} bytes, for instance [\"query\", \"value\"], \"{}\", or a regular expression of at most {LONGEST_PATTERN} bytes",
                    Self::ALL_LINEAR
                ),
            );
        }
        names.map(Self::Names)
    }

    fn limits((): &()) -> Limits {
        Limits::of(SettingKind::Array)
    }
}

/// Names of modules.
impl SettingType for Vec<String> {
    type Range = ();

    fn read(fields: &mut Fields<'_>, name: &'static str, (): &()) -> Option<Self> {
        let names = list_of_names(fields.value(name)?);
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

    fn limits((): &()) -> Limits {
        Limits::of(SettingKind::Array)
    }
}

fn list_of_names(value: &Value) -> Option<Vec<String>> {
    let list = value
        .as_array()
        .filter(|list| (1..=MOST_NAMES).contains(&list.len()))?;
    let is_name = |name: &&str| (1..=LONGEST_NAME).contains(&name.len());
    let name = |n: &Value| n.as_str().filter(is_name).map(str::to_owned);
    list.iter().map(name).collect()
}

/// Numbers of layers, or one number by itself.
impl SettingType for Vec<usize> {
    type Range = ();

    fn read(fields: &mut Fields<'_>, name: &'static str, (): &()) -> Option<Self> {
        let value = fields.value(name)?;
        let number = |n: &Value| n.as_u64().filter(|n| *n < 100_000).map(|n| n as usize);
        let layers: Option<Self> = match value.as_array() {
            Some(list) if (1..=MOST_LAYERS).contains(&list.len()) => {
                list.iter().map(number).collect()
            }
            Some(_) => None,
            None => number(value).map(|n| vec![n]),
        };
        if layers.is_none() {
            fields.reject(
                name,
                format_args!(
                    "must be the number of a layer, or a list of 1 to {MOST_LAYERS} such numbers"
                ),
            );
        }
        layers
    }

    fn limits((): &()) -> Limits {
        Limits::of(SettingKind::Array)
    }
}
