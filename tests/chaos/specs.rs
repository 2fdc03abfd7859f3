//! The jobs that are trained under faults, and what they come to when nothing disturbs them.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use taper_tests::{client::Client, model::jsonl};

use crate::world::World;

const ROWS: usize = 320;
/// Figures that tell of time and memory, not of the training.
const OF_THE_MACHINE: [&str; 7] = [
    "tokens_per_second",
    "samples_per_second",
    "step_seconds",
    "eta_seconds",
    "train_seconds",
    "peak_memory_bytes",
    "estimated_seconds",
];

/// A job of a second or so, with many steps and checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Gradients over two passes, evaluations.
    Lora,
    /// The best checkpoint is published, few are kept.
    Best,
    Full,
    /// Some tenths of a second, for faults that are made hundreds of times.
    Short,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Lora, Self::Best, Self::Full, Self::Short];

    pub(crate) fn body(self) -> Value {
        match self {
            Self::Lora => json!({
                "tuning": {"type": "lora", "r": 4, "lora_dropout": 0.1},
                "training": {"num_train_epochs": 20, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 8,
                             "learning_rate": 1e-3, "save_steps": 20, "eval_steps": 45, "logging_steps": 5, "eval_split": 0.1},
            }),
            Self::Best => json!({
                "tuning": {"type": "lora", "r": 2},
                "training": {"num_train_epochs": 20, "learning_rate": 5e-3, "save_steps": 25, "eval_steps": 25, "logging_steps": 10,
                             "save_total_limit": 2, "load_best_model_at_end": true, "eval_split": 0.2},
            }),
            Self::Full => json!({
                "tuning": {"type": "full"},
                "training": {"num_train_epochs": 15, "learning_rate": 1e-4, "save_steps": 15, "logging_steps": 7},
            }),
            Self::Short => json!({
                "tuning": {"type": "lora", "r": 2},
                "training": {"num_train_epochs": 2, "learning_rate": 1e-3, "save_steps": 8, "eval_steps": 20, "save_total_limit": 2,
                             "eval_split": 0.1},
            }),
        }
    }

    fn weights(self) -> &'static str {
        match self {
            Self::Lora | Self::Best | Self::Short => "adapter/adapter_model.safetensors",
            Self::Full => "model/model.safetensors",
        }
    }
}

/// The rows that all of them train on.
pub(crate) fn rows() -> String {
    jsonl(ROWS)
}

/// A job of each of these kinds, by the key that marks the wish for it.
pub(crate) fn wishes(kinds: &[Kind]) -> BTreeMap<String, Kind> {
    kinds
        .iter()
        .map(|kind| (format!("{kind:?}").to_lowercase(), *kind))
        .collect()
}

/// What a run has come to: the same on every run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Trained {
    /// Of the weights, hex.
    pub(crate) sha256: String,
    /// Every figure of the training at every step.
    pub(crate) curves: BTreeMap<String, Value>,
}

impl Trained {
    /// Reads what a succeeded job has come to.
    pub(crate) async fn of(client: &Client, job: &str, kind: Kind) -> Result<Self> {
        let at = format!("/v1/fine_tuning/jobs/{job}");
        let weights = client
            .bytes(&format!("{at}/artifacts/{}", kind.weights()))
            .await?;
        let curves = client.get(&format!("{at}/metrics?points=10000")).await?;
        let curves = curves["data"].as_object().context("no curves")?;
        Ok(Self {
            sha256: format!("{:x}", Sha256::digest(weights)),
            curves: curves
                .iter()
                .filter(|(name, _)| !OF_THE_MACHINE.contains(&name.as_str()))
                .map(|(name, curve)| (name.clone(), curve.clone()))
                .collect(),
        })
    }
}

/// What undisturbed runs come to.
pub(crate) struct References(BTreeMap<Kind, Trained>);

impl References {
    /// Trains each kind once, in peace.
    pub(crate) async fn make() -> Result<Self> {
        let world = World::running().await?;
        let file = world.site.upload("train.jsonl", rows()).await?;
        let mut made = BTreeMap::new();
        for kind in Kind::ALL {
            let job = world
                .site
                .submit(&format!("{kind:?}"), &file, kind.body())
                .await?;
            world.site.client.wait(&job, "succeeded").await?;
            made.insert(kind, Trained::of(&world.site.client, &job, kind).await?);
        }
        Ok(Self(made))
    }

    pub(crate) fn of(&self, kind: Kind) -> Result<&Trained> {
        self.0.get(&kind).context("a kind without a reference")
    }
}
