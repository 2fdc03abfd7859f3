//! The figures of a run as tables: `metrics.csv`, `result.csv` in OpenAI's columns, `eval_predictions.jsonl`.

use std::{collections::BTreeSet, path::Path};

use serde_json::json;
use taper_core::Metrics;

use super::{Export, Logged, write_text};
use crate::Result;

/// What the tuned model says of one validation row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Prediction {
    /// Line of the row in its file.
    pub(crate) line: u64,
    pub(crate) label: usize,
    pub(crate) logits: Vec<f32>,
}

impl Prediction {
    /// The class with the largest logit.
    pub(crate) fn class(&self) -> usize {
        let best = self
            .logits
            .iter()
            .enumerate()
            .max_by(|a, b| a.1.total_cmp(b.1));
        best.map_or(0, |(class, _)| class)
    }
}

pub(super) fn write_figures(export: &Export<'_>, dir: &Path) -> Result<()> {
    let names: BTreeSet<&str> = export
        .history
        .iter()
        .flat_map(|logged| logged.metrics.iter())
        .map(|(name, _)| name)
        .filter(|n| *n != "step")
        .collect();
    let columns: Vec<&str> = ["step"].into_iter().chain(names).collect();
    write_text(&dir.join("metrics.csv"), &table(export.history, &columns))?;
    let openai = [
        "step",
        "train_loss",
        "train_accuracy",
        "valid_loss",
        "valid_mean_token_accuracy",
    ];
    write_text(&dir.join("result.csv"), &table(export.history, &openai))?;
    if export.predictions.is_empty() {
        return Ok(());
    }
    let names = export.data.classes.names();
    let lines = export.predictions.iter().enumerate().map(|(row, p)| {
        let line = json!({"row": row, "line": p.line, "label": names[p.label], "prediction": names[p.class()], "logits": p.logits});
        format!("{line}\n")
    });
    write_text(
        &dir.join("eval_predictions.jsonl"),
        &lines.collect::<String>(),
    )
}

/// A CSV table with one line a step; an empty cell where nothing was measured.
fn table(history: &[Logged], columns: &[&str]) -> String {
    let mut text = columns.join(",") + "\n";
    let mut steps: Vec<Metrics> = Vec::new();
    for Logged { metrics, .. } in history {
        match steps.last_mut() {
            Some(last) if last.get("step") == metrics.get("step") => last.merge(metrics),
            _ => steps.push(metrics.clone()),
        }
    }
    for metrics in &steps {
        let cells: Vec<String> = columns
            .iter()
            .map(|name| metrics.get(name).map_or(String::new(), |v| v.to_string()))
            .collect();
        text.push_str(&(cells.join(",") + "\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_one_line() {
        let history = [
            Metrics::from([("step", 0.0), ("valid_loss", 0.7)]),
            Metrics::from([("step", 10.0), ("train_loss", 0.5)]),
            Metrics::from([("step", 10.0), ("valid_loss", 0.25)]),
        ]
        .map(|metrics| Logged {
            unix_seconds: 0.0,
            metrics,
        });
        let columns = ["step", "train_loss", "valid_loss"];
        assert_eq!(
            table(&history, &columns),
            "step,train_loss,valid_loss\n0,,0.7\n10,0.5,0.25\n"
        );
    }
}
