use regex::Regex;
use taper_core::{FieldError, Layerwise};

use super::{Rate, Tuner};
use crate::{
    Result,
    families::Arch,
    parameters::{Group, Kind, Trainable},
};

const RATES: &str = "tuning.learning_rates";

/// Which weights a layer-wise run trains, and at which share of its rate.
pub(super) struct LayerwiseTuner<'a> {
    layerwise: &'a Layerwise,
    layers: usize,
    patterns: Vec<(Regex, f64)>,
}

impl<'a> LayerwiseTuner<'a> {
    /// # Errors
    /// A key that is no regular expression.
    pub(super) fn new(layerwise: &'a Layerwise, layers: usize) -> Result<Self> {
        let compile = |(key, rate): (&String, &f64)| {
            let refuse = |e| {
                let message = format!("'{RATES}': '{key}' is not a regular expression: {e}");
                FieldError::invalid(RATES, message)
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

    /// A key of `learning_rates` that matches none of these parameters.
    fn unmatched(&self, parameters: &[Trainable]) -> Option<&str> {
        let mut keys = self.layerwise.learning_rates.keys().zip(&self.patterns);
        let none = |pattern: &Regex| !parameters.iter().any(|p| pattern.is_match(&p.name));
        let found = keys.find(|(_, (pattern, _))| none(pattern));
        found.map(|(key, _)| key.as_str())
    }

    /// # Errors
    /// A parameter that two keys of `learning_rates` match.
    fn rate_of(&self, name: &str, group: Group) -> Result<Rate> {
        let mut given = self
            .patterns
            .iter()
            .filter(|(pattern, _)| pattern.is_match(name));
        if let Some((_, rate)) = given.next() {
            if given.next().is_some() {
                let message = format!(
                    "'{RATES}': two keys match the parameter {name}; make one of them narrower"
                );
                return Err(FieldError::invalid(RATES, message).into());
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
            Group::Head | Group::Adapter(_) => Rate::Share(1.0),
        })
    }

    /// Whether a parameter is ever trained.
    fn is_trained(&self, name: &str, group: Group) -> Result<bool> {
        let rate = self.rate_of(name, group)?;
        Ok(!matches!(rate, Rate::Share(0.0) | Rate::Given(0.0)))
    }
}

impl Tuner for LayerwiseTuner<'_> {
    fn trains(&self, name: &str, _: Kind, group: Group) -> Result<bool> {
        self.is_trained(name, group)
    }

    fn rate(&self, parameter: &Trainable) -> Result<Rate> {
        self.rate_of(&parameter.name, parameter.group)
    }

    /// Layers are unfrozen from the top; the head is trained from the start.
    fn starts_at(&self, group: Group) -> u64 {
        let layers = match group {
            Group::Head | Group::Adapter(_) => 0,
            Group::Layer(i) => self.layers - i,
            Group::Embeddings => self.layers + 1,
        };
        self.layerwise.unfreeze_every_steps.unwrap_or(0) * layers as u64
    }

    fn check(&self, arch: &Arch) -> Result<()> {
        if self.layerwise.freeze_below as usize <= arch.layers() {
            return Ok(());
        }
        let param = "tuning.freeze_below";
        let message = format!(
            "'{param}' is {}, but the model has {} layers",
            self.layerwise.freeze_below,
            arch.layers()
        );
        Err(FieldError::invalid(param, message).into())
    }

    /// A key of `learning_rates` must mean a parameter, or the run would go without what it asks for.
    fn check_parameters(&self, parameters: &dyn Fn() -> Result<Vec<Trainable>>) -> Result<()> {
        let parameters = parameters()?;
        let refuse = |message| Err(FieldError::invalid(RATES, message).into());
        if let Some(key) = self.unmatched(&parameters) {
            let mut weights = parameters.iter().rev().map(|p| p.name.as_str());
            let example = weights.find(|name| name.ends_with(".weight"));
            return refuse(format!(
                "'{RATES}': '{key}' matches no parameter of the model; a key must match a whole name, such as {}",
                example.unwrap_or_default()
            ));
        }
        for parameter in &parameters {
            if self.is_trained(&parameter.name, parameter.group)? {
                return Ok(());
            }
        }
        refuse(format!(
            "'{RATES}' is 0 for all parameters, so that nothing would be trained; leave one out"
        ))
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
        let plan = LayerwiseTuner::new(&layerwise, 3).unwrap();
        let rate = |name: &str, group| plan.rate_of(name, group).unwrap();
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
                .is_trained("bert.encoder.layer.0.output.dense.weight", Group::Layer(0))
                .unwrap()
        );
        assert!(
            !plan
                .is_trained("bert.embeddings.word_embeddings.weight", Group::Embeddings)
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
        let plan = LayerwiseTuner::new(&layerwise, 1).unwrap();
        assert!(plan.rate_of("ab", Group::Head).is_err());
        assert_eq!(plan.rate_of("ac", Group::Head).unwrap(), Rate::Given(0.1));
    }
}
