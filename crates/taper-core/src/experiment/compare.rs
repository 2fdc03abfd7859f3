use std::{cmp::Reverse, collections::BTreeMap};

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{Experiment, Objective, RowScores, Run, Strategy, bootstrap, mean, verdict};
use crate::{JobError, JobState, Tuning};

/// What the runs of an experiment have come to, side by side.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// A row per configuration, in their order.
    pub table: Vec<ComparisonRow>,
    /// Index of the best configuration among those that ran to their end: two are compared over the seeds that both have.
    pub best: Option<usize>,
    /// Which configuration to take and why, in one sentence; once all runs have ended.
    pub recommendation: Option<String>,
    pub warnings: Vec<ExperimentWarning>,
}

/// What a configuration of an experiment has come to.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ComparisonRow {
    /// Index of the configuration, from 0.
    pub configuration: usize,
    /// Its method and what sets it apart, for people.
    pub label: String,
    pub tuning: Tuning,
    /// The settings of `training` in which the configurations differ.
    #[schema(value_type = HashMap<String, Value>)]
    pub training: Map<String, Value>,
    /// Ids of its jobs, one per seed.
    pub jobs: Vec<String>,
    pub seeds: Vec<u64>,
    pub status: RowStatus,
    /// Why a run of it failed, the first one's.
    pub error: Option<JobError>,
    /// How many of its runs are left and why the others are not, for people; null while none is lost, and where `status` says it of all.
    pub note: Option<String>,
    /// The objective's metric, mean over `metric_seeds`: at the end, or of the last evaluation while it runs or where it was stopped early.
    pub metric: Option<f64>,
    /// Standard deviation over `metric_seeds`; null with fewer than two.
    pub metric_std: Option<f64>,
    /// The seeds that have ended well; as long as none has, those that have been measured.
    pub metric_seeds: Vec<u64>,
    /// The metric less that of the best, mean over the seeds that both have.
    pub difference: Option<f64>,
    /// The 95 % interval of `difference`: paired bootstrap over the validation rows, the seeds being as they are. Only for runs that
    /// ended well.
    pub difference_ci95: Option<[f64; 2]>,
    /// The most optimizer steps that a run of it has trained.
    pub steps: Option<u64>,
    pub trainable_parameters: Option<u64>,
    /// Mean over the seeds, first to last optimizer step.
    pub train_seconds: Option<f64>,
    /// Trained tokens per second of training, mean over the seeds.
    pub tokens_per_second: Option<f64>,
    /// The most that a run of it took.
    pub peak_memory_bytes: Option<u64>,
    /// Bytes of the weights that it leaves: the adapter's, or the whole model's.
    pub adapter_bytes: Option<u64>,
}

/// Where a configuration stands: a job's state, `stopped_early` or `deleted`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RowStatus {
    ValidatingFiles,
    Queued,
    Running,
    Paused,
    Succeeded,
    Failed,
    Cancelled,
    /// Others were better at the same step.
    StoppedEarly,
    /// None of its runs is there any more.
    Deleted,
}

impl RowStatus {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ValidatingFiles => "validating_files",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::StoppedEarly => "stopped_early",
            Self::Deleted => "deleted",
        }
    }

    fn of(runs: &[&Run]) -> Self {
        if runs.is_empty() {
            return Self::Deleted;
        }
        let is_open = |run: &&&Run| !run.state.is_terminal();
        if runs.iter().any(|run| is_open(&run))
            && runs.iter().filter(is_open).all(|run| run.is_at_rung())
        {
            return Self::Paused;
        }
        match overall(runs.iter().copied(), false) {
            JobState::ValidatingFiles => Self::ValidatingFiles,
            JobState::Queued => Self::Queued,
            JobState::Running => Self::Running,
            JobState::Paused => Self::Paused,
            JobState::Succeeded => Self::Succeeded,
            JobState::Failed => Self::Failed,
            JobState::Cancelled if runs.iter().any(|run| run.is_stopped_early()) => {
                Self::StoppedEarly
            }
            JobState::Cancelled => Self::Cancelled,
        }
    }
}

/// Something that a person would want to know before trusting a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ExperimentWarning {
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
    /// The configuration that it is about; null = all.
    pub configuration: Option<usize>,
    /// The job that it is about; null = none by itself.
    pub job: Option<String>,
}

/// The state of several runs taken together. `held` says that a user has paused them as a whole.
pub fn overall<'a>(runs: impl Iterator<Item = &'a Run> + Clone, held: bool) -> JobState {
    use JobState::{Cancelled, Failed, Paused, Queued, Running, Succeeded, ValidatingFiles};
    let any = |state| runs.clone().any(|run| run.state == state);
    let has_begun = || runs.clone().any(|run| run.has_started);
    let by_hand = || {
        let mut runs = runs.clone();
        held || runs.any(|run| run.state == Paused && !run.is_at_rung())
    };
    if any(Running) {
        Running
    } else if any(Queued) || any(ValidatingFiles) {
        match (has_begun(), any(Queued)) {
            (true, _) => Running,
            (false, true) => Queued,
            (false, false) => ValidatingFiles,
        }
    } else if any(Paused) {
        // What waits at a rung alone is about to be decided upon.
        if by_hand() { Paused } else { Running }
    } else {
        let ends = [Succeeded, Failed];
        ends.into_iter().find(|end| any(*end)).unwrap_or(Cancelled)
    }
}

/// The runs of each configuration, in the order of the seeds.
struct Sides<'a> {
    objective: &'a Objective,
    runs: Vec<Vec<&'a Run>>,
}

/// A run, and the figure that it is compared by.
type Measured<'a> = (&'a Run, f64);

impl<'a> Sides<'a> {
    fn of(experiment: &'a Experiment, all: &'a [Run]) -> Self {
        let mut runs = vec![Vec::new(); experiment.configurations.len()];
        for run in all {
            if let Some(side) = runs.get_mut(run.configuration) {
                side.push(run);
            }
        }
        Self {
            objective: &experiment.objective,
            runs,
        }
    }

    /// The runs that a configuration is judged by: those that ended well if there are any.
    fn judged(&self, configuration: usize) -> Vec<&'a Run> {
        let all = &self.runs[configuration];
        let is_well = |run: &&&Run| run.state == JobState::Succeeded;
        match all.iter().any(|run| is_well(&run)) {
            true => all.iter().filter(is_well).copied().collect(),
            false => all.clone(),
        }
    }

    fn measured(&self, configuration: usize) -> Vec<Measured<'a>> {
        let judged = self.judged(configuration).into_iter();
        let figure = |run: &'a Run| Some((run, run.figure(&self.objective.metric)?));
        judged.filter_map(figure).collect()
    }

    /// The runs of two configurations by the seeds that both have: what their difference is made from, and its interval.
    fn pairs(&self, own: usize, other: usize) -> Vec<[Measured<'a>; 2]> {
        let others = self.measured(other);
        let pair = |own: Measured<'a>| {
            let of_seed = others.iter().find(|other| other.0.seed == own.0.seed);
            Some([own, *of_seed?])
        };
        self.measured(own).into_iter().filter_map(pair).collect()
    }

    /// How far the figure of one configuration lies above another's.
    fn difference(&self, own: usize, other: usize) -> Option<f64> {
        mean(self.differences(own, other))
    }

    /// How far the figure of one configuration lies above another's, seed by seed.
    fn differences(&self, own: usize, other: usize) -> Vec<f64> {
        let pairs = self.pairs(own, other).into_iter();
        pairs.map(|[own, other]| own.1 - other.1).collect()
    }

    /// Tells whether some seeds say that a configuration is better than another, and some that it is worse.
    fn is_split(&self, own: usize, other: usize) -> bool {
        let differences = self.differences(own, other);
        differences.iter().any(|it| *it > 0.0) && differences.iter().any(|it| *it < 0.0)
    }

    /// The best configuration among those that ran to their end. One that has lost seeds has to beat the best of those with more.
    fn best(&self) -> Option<usize> {
        let seeds = |index: usize| self.measured(index).len();
        let mut ended: Vec<usize> = (0..self.runs.len())
            .filter(|index| RowStatus::of(&self.runs[*index]) == RowStatus::Succeeded)
            .filter(|index| seeds(*index) > 0)
            .collect();
        // The sort is stable: equals stay in the order of their indexes.
        ended.sort_by_key(|index| Reverse(seeds(*index)));
        ended.into_iter().reduce(|best, other| {
            let difference = self.difference(other, best);
            match difference.is_some_and(|it| self.objective.is_better(it)) {
                true => other,
                false => best,
            }
        })
    }
}

impl Comparison {
    /// Puts the table together. `intervals` are those of [`Comparison::pairs`], each by [`Comparison::interval`].
    pub fn of(experiment: &Experiment, runs: &[Run], intervals: &Intervals) -> Self {
        let sides = Sides::of(experiment, runs);
        let best = sides.best();
        let rows = (0..sides.runs.len()).map(|index| {
            let mut row = row(experiment, &sides, index);
            row.difference = best.and_then(|best| sides.difference(index, best));
            row.difference_ci95 = intervals.get(&index).copied();
            row
        });
        let table: Vec<ComparisonRow> = rows.collect();
        let is_over = runs.iter().all(|run| run.state.is_terminal());
        Self {
            recommendation: best.filter(|_| is_over).map(|best| {
                let is_split = |row: &ComparisonRow| sides.is_split(row.configuration, best);
                verdict::recommendation(experiment, &table, best, is_split)
            }),
            warnings: verdict::warnings(experiment, runs, &table, best),
            best,
            table,
        }
    }

    /// The jobs that the intervals of the differences to the best are made from: those of the configurations that ran to their end.
    pub fn pairs(experiment: &Experiment, runs: &[Run]) -> Pairs {
        let sides = Sides::of(experiment, runs);
        let Some(best) = sides.best() else {
            return Pairs::new();
        };
        let jobs = |index| {
            let pairs = sides.pairs(index, best).into_iter();
            let is_well = |run: &Run| run.state == JobState::Succeeded;
            let jobs = pairs.map(|[(own, _), (best, _)]| {
                is_well(own).then(|| [own.job.clone(), best.job.clone()])
            });
            let jobs: Vec<_> = jobs.collect::<Option<_>>()?;
            (!jobs.is_empty()).then_some((index, jobs))
        };
        let others = (0..sides.runs.len()).filter(|index| *index != best);
        others.filter_map(jobs).collect()
    }

    /// The 95 % interval of a difference that is made from these pairs. `scores` are those of each of their jobs that has any; the
    /// difference that a job without any is part of has no interval.
    pub fn interval(
        experiment: &Experiment,
        pairs: &[[String; 2]],
        scores: &BTreeMap<String, RowScores>,
    ) -> Option<[f64; 2]> {
        let side = |which: usize| pairs.iter().map(move |pair| scores.get(&pair[which]));
        let own: Vec<_> = side(0).collect::<Option<_>>()?;
        let best: Vec<_> = side(1).collect::<Option<_>>()?;
        bootstrap::interval(&experiment.objective.metric, &best, &own)
    }
}

/// By configuration the jobs that its difference to the best is made from: for each seed its own and the best's. The same jobs make the
/// same interval.
pub type Pairs = BTreeMap<usize, Vec<[String; 2]>>;

/// Intervals of the differences to the best, by configuration.
pub type Intervals = BTreeMap<usize, [f64; 2]>;

fn row(experiment: &Experiment, sides: &Sides<'_>, index: usize) -> ComparisonRow {
    let configuration = &experiment.configurations[index];
    let (all, judged) = (&sides.runs[index], sides.judged(index));
    let (measured, values): (Vec<&Run>, Vec<f64>) = sides.measured(index).into_iter().unzip();
    let average =
        |figure: &dyn Fn(&Run) -> Option<f64>| mean(judged.iter().filter_map(|run| figure(run)));
    let most = |name: &str| {
        let figures = judged.iter().filter_map(|run| run.figure(name));
        figures.reduce(f64::max).map(|most| most as u64)
    };
    let plans = all.iter().filter_map(|run| run.plan.as_ref());
    ComparisonRow {
        configuration: index,
        label: configuration.label.clone(),
        tuning: configuration.tuning.clone(),
        training: configuration.training.clone(),
        jobs: all.iter().map(|run| run.job.clone()).collect(),
        seeds: all.iter().map(|run| run.seed).collect(),
        status: RowStatus::of(all),
        error: all.iter().find_map(|run| run.error.clone()),
        note: note(experiment, all),
        metric_std: deviation(&values),
        metric: mean(values),
        metric_seeds: measured.iter().map(|run| run.seed).collect(),
        difference: None,
        difference_ci95: None,
        steps: all
            .iter()
            .map(|run| run.steps())
            .max()
            .filter(|steps| *steps > 0),
        trainable_parameters: plans.map(|plan| plan.trainable_parameters).max(),
        train_seconds: average(&|run| run.figure("train_seconds")),
        tokens_per_second: average(&tokens_per_second),
        peak_memory_bytes: most("peak_memory_bytes"),
        adapter_bytes: most("adapter_bytes"),
    }
}

/// What there is to say of the runs that are lost.
fn note(experiment: &Experiment, runs: &[&Run]) -> Option<String> {
    let fate = |seed: &u64| match runs.iter().find(|run| run.seed == *seed) {
        None => Some(format!("seed {seed}: its run was deleted")),
        Some(run) if !matches!(run.state, JobState::Failed | JobState::Cancelled) => None,
        Some(run) => Some(match &run.error {
            Some(error) => format!("seed {seed} {}: {}", run.state, error.message),
            None => format!("seed {seed} {}", run.state),
        }),
    };
    let lost: Vec<String> = experiment.seeds.iter().filter_map(fate).collect();
    let all = experiment.seeds.len();
    let left = all - lost.len();
    // The status says what is the same for all.
    let is_alike = runs.is_empty() || runs.len() == all;
    if left == all || left == 0 && is_alike {
        return None;
    }
    let told: Vec<_> = std::iter::once(format!("{left} of {all} seeds"))
        .chain(lost)
        .collect();
    Some(told.join("; "))
}

/// Over the whole run, where that can be told; else since the last log.
fn tokens_per_second(run: &Run) -> Option<f64> {
    let (tokens, seconds) = (run.figure("trained_tokens"), run.figure("train_seconds"));
    match (tokens, seconds.filter(|seconds| *seconds > 0.0)) {
        (Some(tokens), Some(seconds)) => Some(tokens / seconds),
        _ => run.figure("tokens_per_second"),
    }
}

/// The standard deviation that some values of a larger number tell.
fn deviation(values: &[f64]) -> Option<f64> {
    let average = mean(values.iter().copied()).filter(|_| values.len() > 1)?;
    let squares = values
        .iter()
        .map(|value| (value - average).powi(2))
        .sum::<f64>();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

impl Experiment {
    /// Tells whether some runs are stopped before their end.
    pub(super) fn stops_early(&self) -> bool {
        matches!(self.strategy, Strategy::Asha { .. })
    }
}
