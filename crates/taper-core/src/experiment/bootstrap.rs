//! How sure a difference between two models is: the paired bootstrap over the rows of the validation data.

use super::random::Random;

const RESAMPLES: usize = 1000;
const SEED: u64 = 0x0074_6170_6572;
/// Resamples below and above the interval, so that 95 % lie within it.
const OUTSIDE: usize = RESAMPLES / 40;

/// What one model makes of each validation row, column by column.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RowScores {
    /// Lines of the file: the same lines are the same rows.
    lines: Vec<u64>,
    /// Mean over the row's targets.
    loss: Vec<f64>,
    /// The row's targets: its class, or its tokens.
    targets: Vec<f64>,
    /// Targets predicted rightly.
    correct: Vec<f64>,
    /// With classes: the true and the predicted one, by their place in `classes`.
    labels: Vec<(usize, usize)>,
    classes: Vec<String>,
}

impl RowScores {
    /// Reads a table of rows as a run leaves it in [`crate::RunSpec::VALIDATION_ROWS`].
    ///
    /// # Errors
    /// What is wrong with the table.
    pub fn read(table: impl std::io::Read) -> Result<Self, csv::Error> {
        let mut table = csv::Reader::from_reader(table);
        let mut scores = Self::default();
        for record in table.deserialize() {
            scores.push(record?);
        }
        Ok(scores)
    }

    fn push(&mut self, row: Record) {
        self.lines.push(row.line);
        self.loss.push(row.loss.unwrap_or(f64::NAN));
        self.targets.push(row.label_tokens);
        self.correct.push(row.correct);
        if let (Some(label), Some(prediction)) = (row.label, row.prediction) {
            let label = self.class(label);
            let prediction = self.class(prediction);
            self.labels.push((label, prediction));
        }
    }

    fn class(&mut self, name: String) -> usize {
        let known = self.classes.iter().position(|class| *class == name);
        known.unwrap_or_else(|| {
            self.classes.push(name);
            self.classes.len() - 1
        })
    }

    fn is_of_same_rows(&self, other: &Self) -> bool {
        self.lines == other.lines && self.targets == other.targets
    }

    /// A figure over rows that count as often as `times` says; `None` for one that rows do not tell.
    fn figure(&self, metric: &str, times: &[f64]) -> Option<f64> {
        let weighted = |value: &dyn Fn(usize) -> f64| {
            let sum: f64 = times.iter().enumerate().map(|(i, n)| n * value(i)).sum();
            let targets: f64 = times.iter().zip(&self.targets).map(|(n, a)| n * a).sum();
            sum / targets
        };
        match metric {
            "valid_accuracy" | "valid_mean_token_accuracy" => Some(weighted(&|i| self.correct[i])),
            "valid_loss" => Some(weighted(&|i| self.loss[i] * self.targets[i])),
            "valid_perplexity" => Some(weighted(&|i| self.loss[i] * self.targets[i]).exp()),
            "valid_macro_f1" if !self.labels.is_empty() => Some(self.macro_f1(times)),
            _ => None,
        }
    }

    /// The mean F1 over the classes that occur.
    fn macro_f1(&self, times: &[f64]) -> f64 {
        let mut hits = vec![0.0; self.classes.len()];
        let mut named = vec![0.0; self.classes.len()];
        for ((label, prediction), n) in self.labels.iter().zip(times) {
            named[*label] += n;
            named[*prediction] += n;
            if label == prediction {
                hits[*label] += n;
            }
        }
        let f1 = hits.iter().zip(&named).filter(|(_, named)| **named > 0.0);
        let (sum, count) = f1.fold((0.0, 0.0), |(sum, count), (hits, named)| {
            (sum + 2.0 * hits / named, count + 1.0)
        });
        sum / count
    }
}

/// A row of the table.
#[derive(serde::Deserialize)]
struct Record {
    line: u64,
    loss: Option<f64>,
    label_tokens: f64,
    correct: f64,
    label: Option<String>,
    prediction: Option<String>,
}

/// The 95 % interval of the difference `other - best` in a figure, both given by seed: rows are drawn anew, the same ones for both,
/// and the mean over the seeds is taken. `None` when the two were not measured on the same rows.
pub(super) fn interval(
    metric: &str,
    best: &[&RowScores],
    other: &[&RowScores],
) -> Option<[f64; 2]> {
    let pairs: Vec<(&RowScores, &RowScores)> =
        best.iter().copied().zip(other.iter().copied()).collect();
    let same = |(best, other): &(&RowScores, &RowScores)| best.is_of_same_rows(other);
    if pairs.is_empty() || best.len() != other.len() || !pairs.iter().all(same) {
        return None;
    }
    let first = pairs[0].0;
    let is_one_set = pairs.iter().all(|(best, _)| best.is_of_same_rows(first));
    let mut random = Random::new(SEED);
    let mut differences = Vec::with_capacity(RESAMPLES);
    let mut times = Vec::new();
    for _ in 0..RESAMPLES {
        let mut sum = 0.0;
        for (seed, (best, other)) in pairs.iter().enumerate() {
            // Data that were split by seed have other rows for each.
            if seed == 0 || !is_one_set {
                draw(&mut random, best.lines.len(), &mut times);
            }
            sum += other.figure(metric, &times)? - best.figure(metric, &times)?;
        }
        differences.push(sum / pairs.len() as f64);
    }
    differences.sort_by(f64::total_cmp);
    let bounds = [differences[OUTSIDE - 1], differences[RESAMPLES - OUTSIDE]];
    bounds
        .iter()
        .all(|bound| bound.is_finite())
        .then_some(bounds)
}

/// How often each of `rows` rows is met in as many draws.
fn draw(random: &mut Random, rows: usize, times: &mut Vec<f64>) {
    times.clear();
    times.resize(rows, 0.0);
    for _ in 0..rows {
        times[random.below(rows)] += 1.0;
    }
}
