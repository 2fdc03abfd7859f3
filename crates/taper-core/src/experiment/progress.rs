use serde::Serialize;
use utoipa::ToSchema;

use super::{Experiment, Run, asha::Rungs};

/// How far an experiment has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ExperimentProgress {
    pub runs: u64,
    /// Runs that have ended, well or not.
    pub ended: u64,
    /// Optimizer steps trained by all runs.
    pub steps: u64,
    /// Optimizer steps that all runs will have trained, those counted that are expected to be stopped early. 0 until the files are validated.
    pub total_steps: u64,
}

impl ExperimentProgress {
    /// Counts what the runs have done.
    pub fn of(experiment: &Experiment, runs: &[Run]) -> Self {
        let steps = runs.iter().map(Run::steps).sum();
        let ended = runs.iter().filter(|run| run.state.is_terminal()).count() as u64;
        let is_over = ended == runs.len() as u64;
        Self {
            runs: runs.len() as u64,
            ended,
            steps,
            total_steps: if is_over {
                steps
            } else {
                expected_steps(experiment, runs).max(steps)
            },
        }
    }
}

/// The steps of all runs together: each rung's share is trained by as many as the rungs before it let through.
fn expected_steps(experiment: &Experiment, runs: &[Run]) -> u64 {
    let totals: Vec<u64> = runs
        .iter()
        .filter_map(|run| run.plan.as_ref())
        .map(|plan| plan.total_steps)
        .collect();
    let sum: u64 = totals.iter().sum();
    let (Some(rungs), Some(average)) =
        (Rungs::of(experiment), sum.checked_div(totals.len() as u64))
    else {
        return sum;
    };
    let (mut kept, mut from, mut steps) = (experiment.configurations.len(), 0, 0);
    for rung in 0..=rungs.count {
        let to = rungs.step(rung, average).unwrap_or(average);
        steps += kept as u64 * (to - from);
        (kept, from) = (rungs.kept(kept), to);
    }
    steps * experiment.seeds.len() as u64
}

/// Seconds until the last run ends on `workers` workers, as far as the runs' plans tell; `None` when none of them does.
pub fn seconds_left(experiment: &Experiment, runs: &[Run], workers: u64) -> Option<f64> {
    let ExperimentProgress {
        runs: all,
        ended,
        steps,
        total_steps,
    } = ExperimentProgress::of(experiment, runs);
    let trained: f64 = runs
        .iter()
        .filter_map(|run| run.figure("train_seconds"))
        .sum();
    let measured: u64 = runs
        .iter()
        .filter(|run| run.figure("train_seconds").is_some())
        .map(Run::steps)
        .sum();
    let plans = || runs.iter().filter_map(|run| run.plan.as_ref());
    let planned: f64 = plans().map(|plan| plan.estimated_seconds).sum();
    let planned_steps: u64 = plans().map(|plan| plan.total_steps).sum();
    let per_step = match (measured, planned_steps) {
        (0, 0) => return None,
        (0, steps) => planned / steps as f64,
        (steps, _) => trained / steps as f64,
    };
    let at_once = workers.min(all - ended).max(1);
    let left = (total_steps - steps) as f64 * per_step / at_once as f64;
    (ended < all && per_step > 0.0).then_some(left)
}
