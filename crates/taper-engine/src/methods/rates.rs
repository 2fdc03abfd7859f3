use std::collections::BTreeMap;

use taper_core::Method;

use super::tuner;
use crate::{
    Result,
    parameters::{Group, Parameters},
};

/// The rate of one parameter before the schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rate {
    /// This share of the run's rate.
    Share(f64),
    /// This rate.
    Given(f64),
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
        let tuner = tuner(method, layers)?;
        let list = &parameters.list;
        Ok(Self {
            rates: list.iter().map(|p| tuner.rate(p)).collect::<Result<_>>()?,
            groups: list.iter().map(|p| p.group).collect(),
            starts: list.iter().map(|p| tuner.starts_at(p.group)).collect(),
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
