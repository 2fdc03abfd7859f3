//! The figures of a run as tables: `metrics.csv`, `result.csv` in OpenAI's columns, and of the last evaluation
//! `eval_predictions.jsonl` and `validation_rows.csv`.

use std::{collections::BTreeSet, path::Path};

use taper_core::{Metrics, RunSpec};

use super::{Export, rows::validation_rows, write_text};
use crate::{Result, evaluation::Evaluation, tasks::task};

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
    write_text(
        &dir.join("result.csv"),
        &table(
            &export.history.iter().map(openai_names).collect::<Vec<_>>(),
            &openai,
        ),
    )?;
    let Some(evaluation) = export.evaluation else {
        return Ok(());
    };
    write_text(
        &dir.join(RunSpec::VALIDATION_ROWS),
        &validation_rows(evaluation, export.data.classes.names()),
    )?;
    write_text(
        &dir.join("eval_predictions.jsonl"),
        &predictions(export, evaluation),
    )
}

/// The figures that OpenAI's columns are filled from, under their names there.
fn openai_names(logged: &Logged) -> Logged {
    let mut named = logged.clone();
    for (theirs, ours) in [
        ("train_accuracy", "train_mean_token_accuracy"),
        (
            "valid_mean_token_accuracy",
            "full_valid_mean_token_accuracy",
        ),
    ] {
        if let Some(value) = logged.metrics.get(ours) {
            named.metrics.set(theirs, value);
        }
    }
    named
}

/// What the tuned model makes of each validation row, one JSON object a line.
fn predictions(export: &Export<'_>, evaluation: &Evaluation) -> String {
    let (task, names) = (task(evaluation.task), export.data.classes.names());
    let rows = evaluation.lines.iter().zip(&evaluation.scores).enumerate();
    let lines = rows.map(|(row, (line, score))| task.prediction((row, *line), score, names));
    lines.map(|line| format!("{line}\n")).collect()
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
            samples: Vec::new(),
        });
        let columns = ["step", "train_loss", "valid_loss"];
        assert_eq!(
            table(&history, &columns),
            "step,train_loss,valid_loss\n0,,0.7\n10,0.5,0.25\n"
        );
    }
}
