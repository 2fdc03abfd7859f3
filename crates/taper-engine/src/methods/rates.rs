use std::collections::BTreeMap;

use regex::Regex;
use taper_core::{FieldError, Layerwise, Method};

use crate::{
    Result,
    parameters::{Group, Parameters},
};

/// Which weights a layer-wise run trains, and at which share of its rate.
pub(crate) struct LayerRates<'a> {
    layerwise: &'a Layerwise,
    layers: usize,
    patterns: Vec<(Regex, f64)>,
}

/// The rate of one parameter before the schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rate {
    /// This share of the run's rate.
    Share(f64),
    /// This rate.
    Given(f64),
}

impl<'a> LayerRates<'a> {
    /// # Errors
    /// A key that is no regular expression.
    pub(crate) fn new(layerwise: &'a Layerwise, layers: usize) -> Result<Self> {
        let compile = |(key, rate): (&String, &f64)| {
            let refuse = |e| {
                let param = "tuning.learning_rates";
                FieldError::invalid(
                    param,
                    format!("'{param}': '{key}' is not a regular expression: {e}"),
                )
            };
            Ok((Regex::new(&format!("^(?:{key})$")).map_err(refuse)?, *rate))
        };
        let patterns = layerwise
            .learning_rates
            .iter()
            .map(compile)
            .collect::<Result<_>>()?;
        Ok(Self {
            layerwise,
            layers,
            patterns,
        })
    }

    /// Keys of `learning_rates` that match none of these parameters.
    pub(crate) fn unmatched(&self, parameters: &[String]) -> Vec<&str> {
        let keys = self.layerwise.learning_rates.keys().zip(&self.patterns);
        keys.filter(|(_, (pattern, _))| !parameters.iter().any(|name| pattern.is_match(name)))
            .map(|(key, _)| key.as_str())
            .collect()
    }

    /// # Errors
    /// A parameter that two keys of `learning_rates` match.
    fn rate(&self, name: &str, group: Group) -> Result<Rate> {
        let mut given = self
            .patterns
            .iter()
            .filter(|(pattern, _)| pattern.is_match(name));
        if let Some((_, rate)) = given.next() {
            if given.next().is_some() {
                let param = "tuning.learning_rates";
                let message = format!(
                    "'{param}': two keys match the parameter {name}; make one of them narrower"
                );
                return Err(FieldError::invalid(param, message).into());
            }
            return Ok(Rate::Given(*rate));
        }
        let decay = |depth: usize| Rate::Share(self.layerwise.layer_decay.powi(depth as i32));
        let frozen_below = self.layerwise.freeze_below as usize;
        Ok(match group {
            Group::Embeddings if frozen_below > 0 => Rate::Share(0.0),
            Group::Embeddings => decay(self.layers + 1),
            Group::Layer(i) if i < frozen_below => Rate::Share(0.0),
            Group::Layer(i) => decay(self.layers - i),
            Group::Head | Group::LoraA | Group::LoraB | Group::Prompt => Rate::Share(1.0),
        })
    }

    /// Whether a parameter is ever trained.
    pub(crate) fn trains(&self, name: &str, group: Group) -> Result<bool> {
        Ok(!matches!(
            self.rate(name, group)?,
            Rate::Share(0.0) | Rate::Given(0.0)
        ))
    }
}

/// The learning rates of a run's parameters, step by step.
pub(crate) struct Rates {
    rates: Vec<Rate>,
    groups: Vec<Group>,
    /// Step from which each parameter is trained.
    starts: Vec<u64>,
}

impl Rates {
    pub(crate) fn new(method: &Method, parameters: &Parameters, layers: usize) -> Result<Self> {
        let plan = match method {
            Method::Layerwise(layerwise) => Some(LayerRates::new(layerwise, layers)?),
            Method::Full | Method::Lora(_) | Method::PromptTuning(_) => None,
        };
        let plus = match method {
            Method::Lora(lora) => lora.loraplus_lr_ratio.unwrap_or(1.0),
            _ => 1.0,
        };
        let rate = |name: &str, group: Group| match (&plan, group) {
            (Some(plan), _) => plan.rate(name, group),
            (None, Group::LoraB) => Ok(Rate::Share(plus)),
            (None, _) => Ok(Rate::Share(1.0)),
        };
        let rates = parameters
            .list
            .iter()
            .map(|p| rate(&p.name, p.group))
            .collect::<Result<_>>()?;
        let every = match method {
            Method::Layerwise(layerwise) => layerwise.unfreeze_every_steps.unwrap_or(0),
            Method::Full | Method::Lora(_) | Method::PromptTuning(_) => 0,
        };
        let starts = parameters
            .list
            .iter()
            .map(|p| every * steps_from_the_top(p.group, layers))
            .collect();
        let groups = parameters.list.iter().map(|p| p.group).collect();
        Ok(Self {
            rates,
            groups,
            starts,
        })
    }

    /// Whether each parameter is trained in the step after `step` others.
    pub(crate) fn active(&self, step: u64) -> Vec<bool> {
        self.starts.iter().map(|start| step >= *start).collect()
    }

    /// Updates that a parameter has had when `step` steps are done.
    pub(crate) fn updates(&self, id: usize, step: u64) -> u64 {
        step.saturating_sub(self.starts[id])
    }

    /// The rate of a parameter, from the run's peak rate and the schedule's factor.
    pub(crate) fn of(&self, id: usize, peak: f64, factor: f64) -> f64 {
        match self.rates[id] {
            Rate::Share(share) => share * peak * factor,
            Rate::Given(rate) => rate * factor,
        }
    }

    /// The rate in force for each group that is trained after `step` steps; empty when all have the same.
    pub(crate) fn by_group(&self, step: u64, peak: f64, factor: f64) -> BTreeMap<Group, f64> {
        let active = (0..self.rates.len()).filter(|id| step >= self.starts[*id]);
        let rates: BTreeMap<Group, f64> = active
            .map(|id| (self.groups[id], self.of(id, peak, factor)))
            .collect();
        let mut values = rates.values();
        let first = values.next();
        if values.all(|rate| Some(rate) == first) {
            BTreeMap::new()
        } else {
            rates
        }
    }
}

/// How many layers are unfrozen before this group: the head is trained from the start.
fn steps_from_the_top(group: Group, layers: usize) -> u64 {
    match group {
        Group::Head | Group::LoraA | Group::LoraB | Group::Prompt => 0,
        Group::Layer(i) => (layers - i) as u64,
        Group::Embeddings => layers as u64 + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_fall_with_depth_and_patterns_win() {
        let layerwise = Layerwise {
            layer_decay: 0.5,
            freeze_below: 1,
            learning_rates: [(".*layer\\.2\\..*bias".to_owned(), 0.25)].into(),
            ..Layerwise::default()
        };
        let plan = LayerRates::new(&layerwise, 3).unwrap();
        let rate = |name: &str, group| plan.rate(name, group).unwrap();
        assert_eq!(rate("classifier.weight", Group::Head), Rate::Share(1.0));
        assert_eq!(
            rate("bert.encoder.layer.2.output.dense.weight", Group::Layer(2)),
            Rate::Share(0.5)
        );
        assert_eq!(
            rate("bert.encoder.layer.2.output.dense.bias", Group::Layer(2)),
            Rate::Given(0.25)
        );
        assert_eq!(
            rate("bert.encoder.layer.1.output.dense.weight", Group::Layer(1)),
            Rate::Share(0.25)
        );
        assert!(
            !plan
                .trains("bert.encoder.layer.0.output.dense.weight", Group::Layer(0))
                .unwrap()
        );
        assert!(
            !plan
                .trains("bert.embeddings.word_embeddings.weight", Group::Embeddings)
                .unwrap()
        );
    }

    #[test]
    fn two_keys_on_one_parameter_are_refused() {
        let keys = [("a.*".to_owned(), 0.1), (".*b".to_owned(), 0.2)];
        let layerwise = Layerwise {
            learning_rates: keys.into(),
            ..Layerwise::default()
        };
        let plan = LayerRates::new(&layerwise, 1).unwrap();
        assert!(plan.rate("ab", Group::Head).is_err());
        assert_eq!(plan.rate("ac", Group::Head).unwrap(), Rate::Given(0.1));
    }
}
