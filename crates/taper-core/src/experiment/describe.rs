//! What tells configurations apart, and how they are called.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::Configuration;
use crate::{JobSpec, tuning::Label};

/// One configuration as JSON.
struct Shape<'a> {
    spec: &'a JobSpec,
    tuning: Map<String, Value>,
    training: Map<String, Value>,
}

/// Names the configurations, given with every value in force, and keeps the settings in which they differ.
pub(super) fn describe(specs: &[JobSpec]) -> Vec<Configuration> {
    let shapes: Vec<Shape<'_>> = specs
        .iter()
        .map(|spec| Shape {
            spec,
            tuning: object(&spec.tuning),
            training: object(&spec.training),
        })
        .collect();
    let differs = differing(shapes.iter().map(|shape| &shape.training));
    let describe = |shape: &Shape<'_>| Configuration {
        label: label(shape, &shapes),
        tuning: shape.spec.tuning.clone(),
        training: kept(&shape.training, &differs),
    };
    shapes.iter().map(describe).collect()
}

fn object(settings: &impl serde::Serialize) -> Map<String, Value> {
    match serde_json::to_value(settings) {
        Ok(Value::Object(object)) => object,
        _ => Map::new(),
    }
}

fn kept(settings: &Map<String, Value>, names: &BTreeSet<&str>) -> Map<String, Value> {
    let kept = settings
        .iter()
        .filter(|(name, _)| names.contains(name.as_str()));
    kept.map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Names of the settings that have not the same value everywhere.
fn differing<'a>(all: impl Iterator<Item = &'a Map<String, Value>> + Clone) -> BTreeSet<&'a str> {
    let Some(first) = all.clone().next() else {
        return BTreeSet::new();
    };
    let differs = |name: &&str| {
        all.clone()
            .any(|other| other.get(*name) != first.get(*name))
    };
    first.keys().map(String::as_str).filter(differs).collect()
}

/// The method and the settings that tell this configuration from the others of the same method.
fn label(shape: &Shape<'_>, all: &[Shape<'_>]) -> String {
    let name = shape.spec.tuning.method.name();
    let same = all
        .iter()
        .filter(|other| other.spec.tuning.method.name() == name);
    let Label { text, setting } = shape.spec.tuning.method.label();
    let mut tuning = differing(same.clone().map(|other| &other.tuning));
    if let Some(told) = setting {
        tuning.remove(told);
    }
    let training = differing(same.map(|other| &other.training));
    let settings = [(&shape.tuning, tuning), (&shape.training, training)];
    let others = settings.into_iter().flat_map(|(settings, names)| {
        let shown = |(name, value): (&String, &Value)| match value {
            Value::String(word) => format!("{name}={word}"),
            other => format!("{name}={other}"),
        };
        let differing = settings
            .iter()
            .filter(move |(name, _)| names.contains(name.as_str()));
        differing.map(shown).collect::<Vec<_>>()
    });
    let others: Vec<_> = others.collect();
    match others.is_empty() {
        true => text,
        false => format!("{text} {}", others.join(" ")),
    }
}
