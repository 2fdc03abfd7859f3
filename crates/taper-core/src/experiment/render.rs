//! The comparison as text: CSV for programs, Markdown for people.

use super::{Comparison, ComparisonRow, Experiment, verdict::shown};
use crate::Bytes;

const COLUMNS: [&str; 19] = [
    "configuration",
    "label",
    "status",
    "jobs",
    "seeds",
    "metric",
    "metric_std",
    "metric_seeds",
    "difference",
    "difference_low",
    "difference_high",
    "steps",
    "trainable_parameters",
    "train_seconds",
    "tokens_per_second",
    "peak_memory_bytes",
    "adapter_bytes",
    "error",
    "note",
];

impl Comparison {
    /// The table as CSV, with a header; a cell is empty where there is nothing to say. Several jobs or seeds stand in one cell, with
    /// blanks between them.
    pub fn to_csv(&self) -> String {
        let mut table = csv::Writer::from_writer(Vec::new());
        let rows = self.table.iter().map(cells);
        let header = COLUMNS.map(str::to_owned);
        for row in std::iter::once(header).chain(rows) {
            table
                .write_record(&row)
                .expect("rows of equal length go into memory");
        }
        let bytes = table
            .into_inner()
            .expect("memory is flushed without an error");
        String::from_utf8(bytes).expect("cells are text")
    }

    /// The table as Markdown, with the recommendation below it.
    pub fn to_markdown(&self, experiment: &Experiment) -> String {
        let metric = &experiment.objective.metric;
        let mut text = format!(
            "| configuration | {metric} | difference | 95 % interval | trained parameters | train time | tokens/s | peak memory | weights |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        );
        for row in &self.table {
            text.push_str(&self.line(experiment, row));
        }
        if let Some(recommendation) = &self.recommendation {
            text.push_str(&format!("\n{recommendation}\n"));
        }
        text
    }

    fn line(&self, experiment: &Experiment, row: &ComparisonRow) -> String {
        let objective = &experiment.objective;
        let value = |value: f64| shown(objective, value);
        let metric = match (row.metric, row.metric_std) {
            (Some(mean), Some(std)) => format!("{} ± {}", value(mean), value(std)),
            (Some(mean), None) => value(mean),
            (None, _) => String::new(),
        };
        let is_best = self.best == Some(row.configuration);
        let [difference, interval] = match (row.difference, row.difference_ci95) {
            _ if is_best => ["best".to_owned(), String::new()],
            (Some(difference), None) => [value(difference), String::new()],
            (Some(difference), Some([low, high])) => [
                value(difference),
                format!("{} to {}", value(low), value(high)),
            ],
            (None, _) => Default::default(),
        };
        let cells = [
            format!("{}{}", row.label, remark(row))
                .replace('|', "\\|")
                .replace('\n', " "),
            metric,
            difference,
            interval,
            told(row.trainable_parameters, |n| n.to_string()),
            told(row.train_seconds, |seconds| format!("{seconds:.1} s")),
            told(row.tokens_per_second, |rate| format!("{rate:.0}")),
            told(row.peak_memory_bytes, |bytes| Bytes(bytes).to_string()),
            told(row.adapter_bytes, |bytes| Bytes(bytes).to_string()),
        ];
        format!("| {} |\n", cells.join(" | "))
    }
}

/// What there is to say of a row whose runs did not all run to their end.
fn remark(row: &ComparisonRow) -> String {
    use super::RowStatus::{Failed, StoppedEarly, Succeeded};
    let state = match (row.status, row.steps, &row.error) {
        (StoppedEarly, Some(steps), _) => Some(format!("stopped early at step {steps}")),
        (Failed, _, Some(error)) => Some(format!("failed: {}", error.message)),
        (Succeeded, ..) => None,
        (status, ..) => Some(status.as_str().replace('_', " ")),
    };
    let parts: Vec<String> = state.into_iter().chain(row.note.clone()).collect();
    match parts.is_empty() {
        true => String::new(),
        false => format!(" ({})", parts.join("; ")),
    }
}

fn told<T>(value: Option<T>, tell: impl FnOnce(T) -> String) -> String {
    value.map(tell).unwrap_or_default()
}

fn cells(row: &ComparisonRow) -> [String; COLUMNS.len()] {
    let number = |value: Option<f64>| told(value, |value| value.to_string());
    let count = |value: Option<u64>| told(value, |value| value.to_string());
    let seeds = |seeds: &[u64]| {
        let seeds: Vec<_> = seeds.iter().map(u64::to_string).collect();
        seeds.join(" ")
    };
    let interval = row.difference_ci95;
    [
        row.configuration.to_string(),
        row.label.clone(),
        row.status.as_str().to_owned(),
        row.jobs.join(" "),
        seeds(&row.seeds),
        number(row.metric),
        number(row.metric_std),
        seeds(&row.metric_seeds),
        number(row.difference),
        number(interval.map(|[low, _]| low)),
        number(interval.map(|[_, high]| high)),
        count(row.steps),
        count(row.trainable_parameters),
        number(row.train_seconds),
        number(row.tokens_per_second),
        count(row.peak_memory_bytes),
        count(row.adapter_bytes),
        told(row.error.as_ref(), |error| error.message.clone()),
        row.note.clone().unwrap_or_default(),
    ]
}
