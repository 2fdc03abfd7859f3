use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{LONGEST_NAME, MOST_NAMES};
use crate::fields::Fields;

/// Full tuning with a learning rate that falls with depth: the head has the full rate, layer `i` of `L` (0 = lowest) has
/// `layer_decay^(L-i)` of it, the embeddings `layer_decay^(L+1)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Layerwise {
    pub layer_decay: f64,
    /// Layers below this one, and the embeddings, are frozen; 0 freezes nothing.
    pub freeze_below: u64,
    /// Steps after which one more layer from the top begins to train; absent = all train from the start.
    pub unfreeze_every_steps: Option<u64>,
    /// Rates by regular expression on the whole parameter name; they win over the decay, and 0 freezes.
    pub learning_rates: BTreeMap<String, f64>,
}

impl Default for Layerwise {
    fn default() -> Self {
        Self {
            layer_decay: 0.9,
            freeze_below: 0,
            unfreeze_every_steps: None,
            learning_rates: BTreeMap::new(),
        }
    }
}

impl Layerwise {
    pub(crate) fn parse(fields: &mut Fields<'_>) -> Self {
        let default = Self::default();
        let decay = fields.number("layer_decay", "above 0 and at most 1", |x| {
            x > 0.0 && x <= 1.0
        });
        Self {
            layer_decay: decay.unwrap_or(default.layer_decay),
            freeze_below: fields
                .integer("freeze_below", 0..=100_000)
                .map_or(0, |n| n as u64),
            unfreeze_every_steps: fields
                .integer("unfreeze_every_steps", 1..=1_000_000_000)
                .map(|n| n as u64),
            learning_rates: learning_rates(fields),
        }
    }
}

fn learning_rates(fields: &mut Fields<'_>) -> BTreeMap<String, f64> {
    let Some(object) = fields.object("learning_rates") else {
        return BTreeMap::new();
    };
    let legal = |x: &f64| (0.0..=10.0).contains(x);
    let rates: BTreeMap<String, f64> = object
        .iter()
        .filter(|(pattern, _)| pattern.len() <= LONGEST_NAME)
        .filter_map(|(pattern, rate)| Some((pattern.clone(), rate.as_f64().filter(legal)?)))
        .collect();
    if rates.len() < object.len() || rates.len() > MOST_NAMES {
        fields.reject(
            "learning_rates",
            format_args!(
                "takes at most {MOST_NAMES} pairs of a regular expression of at most {LONGEST_NAME} bytes on parameter names and a rate from 0 to 10"
            ),
        );
    }
    rates
}
