use std::{collections::BTreeMap, ops::Bound};

use super::{Descriptor, Produces, TaskType, TuningMethod};
use crate::settings::{Numbers, Pairs, settings};

settings! {
    /// Full tuning with a learning rate that falls with depth: the head has the full rate, layer `i` of `L` (0 = lowest) has
    /// `layer_decay^(L-i)` of it, the embeddings `layer_decay^(L+1)`.
    pub struct Layerwise {
        /// Factor on the learning rate from each layer to the one below it.
        layer_decay: f64 = 0.9, DECAY, common;
        /// Layers below this one, and the embeddings, are frozen; 0 freezes nothing.
        freeze_below: u64 = 0, 0..=100_000, common, shapes_weights;
        /// Steps after which one more layer from the top begins to train; absent = all train from the start.
        unfreeze_every_steps: Option<u64> = None, 1..=1_000_000_000, advanced;
        /// Rates by regular expression on the whole parameter name; they win over the decay, and 0 freezes.
        learning_rates: BTreeMap<String, f64> = BTreeMap::new(), RATES, advanced, shapes_weights;
    }
}

const DECAY: Numbers = Numbers::new(
    "above 0 and at most 1",
    Bound::Excluded(0.0),
    Bound::Included(1.0),
);

const RATES: Pairs = Pairs {
    keys: "a regular expression",
    of: " on parameter names",
    values: "a rate from 0 to 10",
    holds: |rate| (0.0..=10.0).contains(&rate),
};

impl TuningMethod for Layerwise {
    fn descriptor(&self) -> Descriptor {
        Descriptor {
            name: "layerwise",
            title: "Layer-wise tuning",
            description: "Every weight is trained, each layer at its own rate, or not at all.",
            produces: Produces::Model,
        }
    }

    fn default_learning_rate(&self, _: TaskType) -> f64 {
        1e-4
    }
}
