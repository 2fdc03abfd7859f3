//! Successive halving, rung by rung: a run that comes to a rung waits until all others have come to it, so that what is decided does
//! not depend on which of them was faster, and a restart decides the same.

use std::collections::{BTreeMap, BTreeSet};

use super::{Experiment, Run, Strategy, mean};

/// What becomes of a run that waits at a rung.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Id of its job.
    pub job: String,
    pub next: Next,
    /// Why, for its log.
    pub message: String,
}

/// Where a run goes from a rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// On, to wait again at a step, or to its end.
    Promote { pause_at_step: Option<u64> },
    /// Nowhere.
    Stop,
}

/// The rungs of an experiment. They are numbered from 0; what comes after the last one is the end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rungs {
    reduction: u64,
    pub(super) count: u32,
}

impl Rungs {
    /// As many as it takes until one of the configurations is left. `None` where all of them run to their end.
    pub(super) fn of(experiment: &Experiment) -> Option<Self> {
        let Strategy::Asha { reduction } = experiment.strategy else {
            return None;
        };
        let configurations = experiment.configurations.len() as u64;
        Some(Self {
            reduction,
            count: configurations.checked_ilog(reduction).unwrap_or(0),
        })
    }

    /// The step of a rung in a run of `total` steps; `None` = the run's end. Every rung lies at least a step above the one before.
    pub(super) fn step(self, rung: u32, total: u64) -> Option<u64> {
        let share = self.reduction.pow(self.count.saturating_sub(rung));
        let step = total.div_ceil(share).max(u64::from(rung) + 1);
        (rung < self.count && step < total).then_some(step)
    }

    /// The rung that a run is on its way to.
    fn of_run(self, run: &Run) -> u32 {
        match (&run.plan, run.pause_at_step) {
            (None, _) => 0,
            (Some(_), None) => self.count,
            (Some(plan), Some(step)) => (0..self.count)
                .find(|rung| self.step(*rung, plan.total_steps) >= Some(step))
                .unwrap_or(self.count),
        }
    }

    /// Tells whether a run has waited at a rung and was let on. One that is too short for the rung never comes to it.
    fn has_passed(self, run: &Run, rung: u32) -> bool {
        let total = run.plan.as_ref().map_or(0, |plan| plan.total_steps);
        self.of_run(run) > rung && self.step(rung, total).is_some()
    }

    /// How many of some configurations go on.
    pub(super) fn kept(self, configurations: usize) -> usize {
        configurations.div_ceil(self.reduction as usize)
    }
}

/// The step at which a run waits for the first time; `None` = it goes on to its end.
pub fn first_rung(experiment: &Experiment, total_steps: u64) -> Option<u64> {
    Rungs::of(experiment)?.step(0, total_steps)
}

/// What becomes of the runs that wait, once all of them have come to their rung: the configurations with the best mean over the seeds
/// that all have go on, equals by their index, and the others are stopped. A run that comes to a rung after it was decided, because it was
/// tried again, is stopped.
pub fn decide(experiment: &Experiment, runs: &[Run]) -> Vec<Move> {
    let Some(rungs) = Rungs::of(experiment) else {
        return Vec::new();
    };
    let open = || runs.iter().filter(|run| !run.state.is_terminal());
    let Some(rung) = open().map(|run| rungs.of_run(run)).min() else {
        return Vec::new();
    };
    let waiting: Vec<&Run> = open().filter(|run| rungs.of_run(run) == rung).collect();
    if waiting.iter().any(|run| !run.is_at_rung()) {
        return Vec::new();
    }
    let is_decided = runs.iter().any(|run| rungs.has_passed(run, rung));
    let places = places(experiment, &waiting);
    let kept = match is_decided {
        true => 0,
        false => rungs.kept(places.len()),
    };
    let decide = |run: &&Run| {
        let place = places[&run.configuration];
        let standing = format!(
            "place {} of {} by {} at step {}",
            place + 1,
            places.len(),
            experiment.objective.metric,
            run.steps()
        );
        let total = run.plan.as_ref().map_or(0, |plan| plan.total_steps);
        let (next, message) = match place < kept {
            true => (
                Next::Promote {
                    pause_at_step: rungs.step(rung + 1, total),
                },
                format!("The run goes on: {standing}"),
            ),
            false if is_decided => (
                Next::Stop,
                "The run was stopped: the others have been decided upon without it".to_owned(),
            ),
            false => (
                Next::Stop,
                format!("The run was stopped early: {standing}, and {kept} go on"),
            ),
        };
        Move {
            job: run.job.clone(),
            next,
            message,
        }
    };
    waiting.iter().map(decide).collect()
}

/// The place of each configuration among those that wait, from 0. One may have lost its hardest seed, so they are compared over the
/// seeds that all of them have; where there is none, those with fewer seeds come behind the others.
fn places(experiment: &Experiment, waiting: &[&Run]) -> BTreeMap<usize, usize> {
    let objective = &experiment.objective;
    let mut figures: BTreeMap<usize, BTreeMap<u64, f64>> = BTreeMap::new();
    for run in waiting {
        let own = figures.entry(run.configuration).or_default();
        let figure = run.figure(&objective.metric);
        own.extend(figure.map(|figure| (run.seed, figure)));
    }
    // One without any figure is the last by itself.
    let measured = || figures.values().filter(|own| !own.is_empty());
    let is_shared = |seed: &u64| measured().all(|own| own.contains_key(seed));
    let all = measured().next().into_iter().flat_map(BTreeMap::keys);
    let shared: BTreeSet<u64> = all.copied().filter(is_shared).collect();
    let value = |own: &BTreeMap<u64, f64>| {
        let counts = |seed: &u64| shared.is_empty() || shared.contains(seed);
        let counted = own.iter().filter(|(seed, _)| counts(seed));
        mean(counted.map(|(_, figure)| *figure))
    };
    let rank = |(configuration, own): (&usize, &BTreeMap<u64, f64>)| {
        let seeds = if shared.is_empty() { own.len() } else { 0 };
        (*configuration, seeds, value(own))
    };
    let mut ranked: Vec<(usize, usize, Option<f64>)> = figures.iter().map(rank).collect();
    // The sort is stable, and the map was in the order of the indexes.
    ranked.sort_by(|a, b| b.1.cmp(&a.1).then(objective.order(a.2, b.2)));
    let places = ranked.into_iter().map(|(configuration, ..)| configuration);
    places.zip(0..).collect()
}
