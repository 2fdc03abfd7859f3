//! What a model makes of the validation rows.

use taper_core::{Control, Metrics, TaskType};

use crate::{
    Result,
    data::{Batch, Encoded},
    models::{Model, Pass},
    tape::Tape,
    tasks::{Means, Score, task},
};

/// Tokens of one batch of an evaluation, about.
pub(crate) const BATCH_TOKENS: usize = 2048;

/// What a model makes of the validation rows.
pub(crate) struct Evaluation {
    pub(crate) task: TaskType,
    pub(crate) scores: Vec<Score>,
    /// Line of each row in its file.
    pub(crate) lines: Vec<u64>,
}

/// Runs the model over all rows, without dropout.
pub(crate) fn evaluate(
    model: &Model,
    data: &Encoded,
    kind: TaskType,
    control: &Control,
) -> Result<Evaluation> {
    let mut scores = Vec::new();
    while scores.len() < data.len() {
        control.check()?;
        let rows = batch_from(data, scores.len());
        let tape = Tape::idle(model.backend.clone());
        let pass = Pass {
            tape: &tape,
            rng: None,
        };
        scores.extend(task(kind).score(model, &pass, &Batch::of(data, &rows))?);
    }
    Ok(Evaluation {
        task: kind,
        scores,
        lines: data.lines.clone(),
    })
}

fn batch_from(data: &Encoded, start: usize) -> Vec<usize> {
    let mut places = 0;
    let fits = |row: &usize| {
        places += data.places(*row);
        *row == start || places <= BATCH_TOKENS
    };
    (start..data.len()).take_while(fits).collect()
}

impl Evaluation {
    /// Over all targets: a row counts as often as it has some.
    fn means(&self) -> Means {
        let targets = self.scores.iter().map(|score| score.targets).sum::<u64>();
        let targets = targets.max(1) as f64;
        let loss: f64 = self
            .scores
            .iter()
            .map(|score| score.loss * score.targets as f64)
            .sum();
        let correct: u64 = self.scores.iter().map(|score| score.correct).sum();
        Means {
            loss: loss / targets,
            accuracy: correct as f64 / targets,
        }
    }

    /// Counts of rows by true class (first index) and predicted class; empty without classes.
    pub(crate) fn confusion(&self) -> Vec<Vec<u64>> {
        task(self.task).confusion(&self.scores)
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let means = self.means();
        let mut metrics = task(self.task).figures(&self.scores, means);
        metrics.set("valid_loss", means.loss);
        metrics.set("full_valid_loss", means.loss);
        metrics.set("full_valid_mean_token_accuracy", means.accuracy);
        metrics
    }
}
