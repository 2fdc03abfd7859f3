//! What a comparison says in words.

use std::collections::BTreeSet;

use super::{ComparisonRow, Experiment, ExperimentWarning, Objective, RowStatus, Run, TRAIN_LOSS};
use crate::Warning;

/// Values of a setting from which on the best one lying at an end of them says something.
const TRIED: usize = 3;

/// Which configuration to take: of those that cannot be told from the best, the one with the fewest trained parameters; and why.
/// `is_split` tells of which ones the seeds disagree whether they are better than the best.
pub(super) fn recommendation(
    experiment: &Experiment,
    table: &[ComparisonRow],
    best: usize,
    is_split: impl Fn(&ComparisonRow) -> bool,
) -> String {
    let against = |row: &ComparisonRow| against(experiment, row, &table[best], is_split(row));
    let objective = &experiment.objective;
    let comparable =
        |row: &&ComparisonRow| row.status == RowStatus::Succeeded && row.difference.is_some();
    let chosen = table
        .iter()
        .filter(comparable)
        .filter(|row| row.configuration == best || is_level(row))
        .min_by(|a, b| {
            let fewer = a.trainable_parameters.cmp(&b.trainable_parameters);
            fewer.then(objective.order(a.difference, b.difference))
        })
        .unwrap_or(&table[best]);
    if chosen.configuration != best {
        return format!("{}: {}", chosen.label, against(chosen));
    }
    let best = &table[best];
    let second = table
        .iter()
        .filter(comparable)
        .filter(|row| row.configuration != best.configuration)
        .min_by(|a, b| objective.order(a.difference, b.difference));
    let value = best
        .metric
        .map_or_else(String::new, |value| shown(objective, value));
    let label = &best.label;
    match second {
        Some(second) if is_beaten_by(objective, second) => format!(
            "{label}: {} {value}, but {} lies {}",
            objective.metric,
            second.label,
            against(second)
        ),
        Some(second) => format!(
            "{label}: the best {} ({value}), next is {}, {}",
            objective.metric,
            second.label,
            against(second)
        ),
        None if table.len() > 1 => {
            format!(
                "{label}: {} {value}; no other configuration ran to its end with that figure on the same seeds",
                objective.metric
            )
        }
        None => format!("{label}: {} {value}", objective.metric),
    }
}

/// Tells whether a difference to the best may be chance.
fn is_level(row: &ComparisonRow) -> bool {
    row.difference_ci95
        .is_some_and(|[low, high]| low <= 0.0 && 0.0 <= high)
}

/// Tells whether a configuration is better than the best over the seeds that both have. With seeds lost, one may be better than a second
/// and the second than a third without the first being better than the third.
fn is_beaten_by(objective: &Objective, row: &ComparisonRow) -> bool {
    let is_better = |difference| objective.is_better(difference);
    row.status == RowStatus::Succeeded && row.difference.is_some_and(is_better)
}

/// How a configuration compares with the best: how far from it, how sure that is, and at what share of the cost. The interval says
/// nothing of the chance between seeds, so that nothing is sure of which they disagree.
fn against(
    experiment: &Experiment,
    row: &ComparisonRow,
    best: &ComparisonRow,
    is_split: bool,
) -> String {
    let objective = &experiment.objective;
    let difference = row.difference.unwrap_or_default();
    let side = if difference > 0.0 { "above" } else { "below" };
    let size = difference.abs();
    let distance = match is_share(objective) {
        _ if size == 0.0 => format!("level with {}", best.label),
        true => format!("{:.1} points {side} {}", 100.0 * size, best.label),
        false => format!("{size:.4} {side} {}", best.label),
    };
    let sureness = match row.difference_ci95 {
        Some(_) if is_level(row) => "not distinguishable at 95 % on these validation rows",
        Some(_) if is_split => "though the seeds disagree which is better",
        Some(_) => "more than the chance of these validation rows at 95 %",
        None => "how sure that is cannot be told",
    };
    let mut parts = vec![distance];
    let (seeds, all) = (shared_seeds(row, best), experiment.seeds.len());
    if seeds < all {
        parts.push(format!("over the {seeds} of {all} seeds that both have"));
    }
    parts.push(sureness.to_owned());
    let shares = [
        (
            row.trainable_parameters.map(|n| n as f64),
            best.trainable_parameters.map(|n| n as f64),
            "the parameters",
        ),
        (row.train_seconds, best.train_seconds, "the time"),
    ];
    for (own, of, what) in shares {
        if let (Some(own), Some(of)) = (own, of.filter(|of| *of > 0.0)) {
            parts.push(format!("{} of {what}", percent(own / of)));
        }
    }
    parts.join(", ")
}

/// How many seeds a difference is the mean over.
fn shared_seeds(row: &ComparisonRow, best: &ComparisonRow) -> usize {
    let is_shared = |seed: &&u64| best.metric_seeds.contains(seed);
    row.metric_seeds.iter().filter(is_shared).count()
}

/// Metrics that are shares of a whole, which people read as percentages.
fn is_share(objective: &Objective) -> bool {
    objective.metric.ends_with("accuracy") || objective.metric.ends_with("_f1")
}

/// A value of the metric.
pub(super) fn shown(objective: &Objective, value: f64) -> String {
    match is_share(objective) {
        true => format!("{:.1} %", 100.0 * value),
        false => format!("{value:.4}"),
    }
}

/// A share with as many decimals as it takes for a digit that is not 0.
fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    let decimals = match percent {
        _ if percent >= 10.0 || percent <= 0.0 => 0,
        _ if percent >= 0.1 => 1,
        _ => -percent.log10().floor() as usize,
    };
    format!("{percent:.decimals$} %")
}

/// What to know before trusting the comparison: of the experiment, then of its runs. What holds for all runs is told once.
pub(super) fn warnings(
    experiment: &Experiment,
    runs: &[Run],
    table: &[ComparisonRow],
    best: Option<usize>,
) -> Vec<ExperimentWarning> {
    let mut warnings = Vec::new();
    let mut warn = |code: &str, message: String, about: Option<usize>| {
        warnings.push(ExperimentWarning {
            code: code.to_owned(),
            message,
            configuration: about,
            job: None,
        });
    };
    if experiment.objective.metric == TRAIN_LOSS {
        let message = "The configurations are compared by their training loss, which says nothing of new data; add validation data";
        warn("no_validation", message.to_owned(), None);
    }
    if experiment.seeds.len() == 1 {
        let message = "With one seed nobody knows how much of a difference is chance of the training; give several 'seeds'";
        warn("one_seed", message.to_owned(), None);
    }
    if let Some(row) = best.map(|best| &table[best])
        && let Some(message) = edge(experiment, table, row)
    {
        warn("edge_of_range", message, Some(row.configuration));
    }
    let beaten = |row: &&ComparisonRow| is_beaten_by(&experiment.objective, row);
    if let (Some(best), Some(row)) = (best, table.iter().find(beaten)) {
        let message = format!(
            "{} is better than {} over the seeds that both have: which one is the best depends on the lost runs; try them again",
            row.label, table[best].label
        );
        warn("no_clear_best", message, Some(row.configuration));
    }
    warnings.extend(of_runs(experiment, runs));
    warnings
}

/// The best learning rate should lie between others.
fn edge(experiment: &Experiment, table: &[ComparisonRow], best: &ComparisonRow) -> Option<String> {
    let rate = |row: &ComparisonRow| row.training.get("learning_rate")?.as_f64();
    let method = best.tuning.method.name();
    let same = table
        .iter()
        .filter(|row| row.tuning.method.name() == method);
    let mut tried: Vec<f64> = same.filter_map(rate).collect();
    tried.sort_by(f64::total_cmp);
    tried.dedup();
    let own = rate(best).filter(|_| tried.len() >= TRIED)?;
    let (end, further) = match (tried.first()? == &own, tried.last()? == &own) {
        (true, _) => ("smallest", "smaller"),
        (_, true) => ("largest", "larger"),
        _ => return None,
    };
    let which = match experiment.stops_early() {
        true => " (of those that were not stopped early)",
        false => "",
    };
    Some(format!(
        "The best learning rate, {own}{which}, is the {end} that was tried for {method}; a {further} one may be better"
    ))
}

/// What the runs warn of. The same warning of all runs is one of the data; any other says which run it is about.
fn of_runs(experiment: &Experiment, runs: &[Run]) -> Vec<ExperimentWarning> {
    let told: Vec<(&Run, Vec<Warning>)> = runs
        .iter()
        .map(|run| (run, Warning::of_job(run.plan.as_ref(), &run.metrics)))
        .collect();
    let is_of_all = |warning: &Warning| told.iter().all(|(_, own)| own.contains(warning));
    let mut seen = BTreeSet::new();
    let mut warnings = Vec::new();
    for (run, own) in &told {
        for warning in own {
            let shared = is_of_all(warning);
            if shared && !seen.insert(warning.message.clone()) {
                continue;
            }
            warnings.push(ExperimentWarning {
                code: warning.code.as_str().to_owned(),
                message: match shared {
                    true => warning.message.clone(),
                    false => format!("{}: {}", name(experiment, run), warning.message),
                },
                configuration: (!shared).then_some(run.configuration),
                job: (!shared).then(|| run.job.clone()),
            });
        }
    }
    warnings
}

/// What a run is called among the others.
fn name(experiment: &Experiment, run: &Run) -> String {
    let label = &experiment.configurations[run.configuration].label;
    match experiment.seeds.len() {
        1 => label.clone(),
        _ => format!("{label}, seed {}", run.seed),
    }
}
