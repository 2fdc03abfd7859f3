use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Figures of a run by name; names and units are one list for events, curves, CSV and TensorBoard (`train_loss`, `tokens_per_second`, …).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, Option<f64>>")]
pub struct Metrics(BTreeMap<String, f64>);

impl From<BTreeMap<String, Option<f64>>> for Metrics {
    /// JSON has no number for what is not finite, so null comes back as NaN.
    fn from(stored: BTreeMap<String, Option<f64>>) -> Self {
        Self(
            stored
                .into_iter()
                .map(|(name, value)| (name, value.unwrap_or(f64::NAN)))
                .collect(),
        )
    }
}

impl Metrics {
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a figure and returns the whole, so that a list of figures reads as one.
    #[must_use]
    pub fn with(mut self, name: &str, value: f64) -> Self {
        self.set(name, value);
        self
    }

    pub fn set(&mut self, name: &str, value: f64) {
        self.0.insert(name.to_owned(), value);
    }

    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes over the figures of `newer`.
    pub fn merge(&mut self, newer: &Self) {
        self.0
            .extend(newer.0.iter().map(|(name, value)| (name.clone(), *value)));
    }

    /// The figures as JSON: counts as integers, a non-finite value as `null` with its name listed in `non_finite`.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut data = Map::new();
        let mut non_finite = Vec::new();
        for (name, &value) in &self.0 {
            let json = if is_count(name) && value.is_finite() {
                Value::from(value as i64)
            } else {
                Value::from(value)
            };
            if !value.is_finite() {
                non_finite.push(Value::from(name.as_str()));
            }
            data.insert(name.clone(), json);
        }
        if !non_finite.is_empty() {
            data.insert("non_finite".to_owned(), Value::Array(non_finite));
        }
        data
    }
}

fn is_count(name: &str) -> bool {
    matches!(
        name,
        "step" | "total_steps" | "trained_tokens" | "trainable_parameters" | "total_parameters"
    ) || name.ends_with("_bytes")
        || name.ends_with("_from_step")
}

impl<const N: usize> From<[(&str, f64); N]> for Metrics {
    fn from(figures: [(&str, f64); N]) -> Self {
        Self(
            figures
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_integers_for_counts_and_no_nan() {
        let data =
            Metrics::from([("step", 3.0), ("train_loss", f64::NAN), ("epoch", 1.0)]).to_json();
        assert_eq!(
            serde_json::to_string(&data).unwrap(),
            r#"{"epoch":1.0,"step":3,"train_loss":null,"non_finite":["train_loss"]}"#
        );
    }
}
