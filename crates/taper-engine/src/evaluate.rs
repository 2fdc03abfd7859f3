use taper_core::{Control, Metrics};

use crate::{
    Result,
    data::{Batch, Encoded},
    export::Prediction,
    models::{Model, Pass},
    ops,
    tape::{Path, Tape},
};

/// Tokens of one batch of an evaluation, about.
const BATCH_TOKENS: usize = 2048;

/// What a model makes of the validation rows.
pub(crate) struct Evaluation {
    pub(crate) loss: f64,
    pub(crate) predictions: Vec<Prediction>,
    classes: usize,
}

/// Runs the model over all rows, without dropout.
pub(crate) fn evaluate(
    model: &Model,
    data: &Encoded,
    lines: &[u64],
    classes: usize,
    control: &Control,
) -> Result<Evaluation> {
    let tape = Tape::idle(Path::of(&model.device));
    let pass = Pass {
        tape: &tape,
        noise: None,
    };
    let mut evaluation = Evaluation {
        loss: 0.0,
        predictions: Vec::with_capacity(data.len()),
        classes,
    };
    let mut next = 0;
    while next < data.len() {
        control.check()?;
        let rows = batch_from(data, next);
        let batch = Batch::of(data, &rows);
        let logits = model.logits(&pass, &batch)?;
        let loss = ops::cross_entropy(&tape, &logits, &batch.labels, data.len())?;
        evaluation.loss += f64::from(loss.tensor.to_scalar::<f32>()?);
        for (logits, row) in logits.tensor.to_vec2()?.into_iter().zip(&rows) {
            evaluation.predictions.push(Prediction {
                line: lines[*row],
                label: data.labels[*row] as usize,
                logits,
            });
        }
        next += rows.len();
    }
    Ok(evaluation)
}

fn batch_from(data: &Encoded, start: usize) -> Vec<usize> {
    let mut tokens = 0;
    let fits = |row: &usize| {
        tokens += data.ids[*row].len();
        *row == start || tokens <= BATCH_TOKENS
    };
    (start..data.len()).take_while(fits).collect()
}

impl Evaluation {
    /// Counts of rows by true class (first index) and predicted class.
    pub(crate) fn confusion(&self) -> Vec<Vec<u64>> {
        let mut counts = vec![vec![0; self.classes]; self.classes];
        for prediction in &self.predictions {
            counts[prediction.label][prediction.class()] += 1;
        }
        counts
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let confusion = self.confusion();
        let accuracy = accuracy(&confusion);
        Metrics::from([
            ("valid_loss", self.loss),
            ("valid_accuracy", accuracy),
            ("valid_macro_f1", macro_f1(&confusion)),
            ("full_valid_loss", self.loss),
            ("full_valid_mean_token_accuracy", accuracy),
        ])
    }
}

fn accuracy(confusion: &[Vec<u64>]) -> f64 {
    let right: u64 = (0..confusion.len())
        .map(|class| confusion[class][class])
        .sum();
    right as f64 / confusion.iter().flatten().sum::<u64>().max(1) as f64
}

/// The mean of the classes' F1 over the classes that occur in the truth or in the predictions (scikit-learn's `average="macro"`).
fn macro_f1(confusion: &[Vec<u64>]) -> f64 {
    let scores: Vec<f64> = (0..confusion.len())
        .filter_map(|class| {
            let truth: u64 = confusion[class].iter().sum();
            let predicted: u64 = confusion.iter().map(|row| row[class]).sum();
            (truth + predicted > 0)
                .then(|| 2.0 * confusion[class][class] as f64 / (truth + predicted) as f64)
        })
        .collect();
    scores.iter().sum::<f64>() / scores.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_follow_scikit_learn() {
        // sklearn.metrics on y_true = [0]*5 + [1]*3 + [2]*2, y_pred = [0]*4 + [1] + [1]*2 + [0] + [1]*2: accuracy 0.6, macro F1 0.4333…
        let confusion = vec![vec![4, 1, 0], vec![1, 2, 0], vec![0, 2, 0]];
        assert!((accuracy(&confusion) - 0.6).abs() < 1e-12);
        assert!((macro_f1(&confusion) - (0.8 + 0.5) / 3.0).abs() < 1e-12);
        let unused = vec![vec![1, 0, 0], vec![0, 1, 0], vec![0, 0, 0]];
        assert_eq!(macro_f1(&unused), 1.0);
    }
}
