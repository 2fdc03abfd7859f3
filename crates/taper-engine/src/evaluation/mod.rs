//! What a model makes of the validation rows.

mod samples;

pub(crate) use samples::samples;

use taper_core::{Control, Metrics};

use crate::{
    Result,
    data::{Answers, Batch, Encoded},
    models::{Model, Pass},
    tape::Tape,
};

/// Tokens of one batch of an evaluation, about.
pub(crate) const BATCH_TOKENS: usize = 2048;

/// What a model makes of the validation rows.
pub(crate) enum Evaluation {
    Classes {
        predictions: Vec<Prediction>,
        classes: usize,
    },
    Tokens(Vec<RowLoss>),
}

/// What the tuned model says of one row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Prediction {
    /// Line of the row in its file.
    pub(crate) line: u64,
    pub(crate) label: usize,
    pub(crate) loss: f64,
    pub(crate) logits: Vec<f32>,
}

/// How well the tuned model foretells one row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RowLoss {
    /// Line of the row in its file.
    pub(crate) line: u64,
    /// Mean over its tokens.
    pub(crate) loss: f64,
    /// Tokens that the loss covers.
    pub(crate) tokens: u64,
    /// Those of them foretold rightly.
    pub(crate) correct: u64,
}

impl Prediction {
    fn new(line: u64, label: usize, logits: Vec<f32>) -> Self {
        let wide = |logit: &f32| f64::from(*logit);
        let max = logits.iter().map(wide).fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = logits.iter().map(|logit| (wide(logit) - max).exp()).sum();
        Self {
            line,
            label,
            loss: total.ln() + max - wide(&logits[label]),
            logits,
        }
    }

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

/// Runs the model over all rows, without dropout.
pub(crate) fn evaluate(
    model: &Model,
    data: &Encoded,
    classes: usize,
    control: &Control,
) -> Result<Evaluation> {
    let mut evaluation = match classes {
        0 => Evaluation::Tokens(Vec::new()),
        _ => Evaluation::Classes {
            predictions: Vec::new(),
            classes,
        },
    };
    let mut next = 0;
    while next < data.len() {
        control.check()?;
        let rows = batch_from(data, next);
        evaluation.add(model, data, &rows)?;
        next += rows.len();
    }
    Ok(evaluation)
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
    fn add(&mut self, model: &Model, data: &Encoded, numbers: &[usize]) -> Result<()> {
        let tape = Tape::idle(model.backend.clone());
        let pass = Pass {
            tape: &tape,
            noise: None,
        };
        let batch = Batch::of(data, numbers);
        match (self, &batch.answers) {
            (Self::Classes { predictions, .. }, Answers::Classes(labels)) => {
                let logits: Vec<Vec<f32>> = model.logits(&pass, &batch)?.tensor.to_vec2()?;
                let rows = logits.into_iter().zip(numbers).zip(labels);
                predictions.extend(rows.map(|((logits, row), label)| {
                    Prediction::new(data.lines[*row], *label as usize, logits)
                }));
            }
            (Self::Tokens(rows), Answers::Tokens { words, .. }) => {
                let each = model.loss(&pass, &batch, 1)?.each;
                let mut rest = words.iter().zip(&each).peekable();
                for (row, end) in numbers.iter().zip(&batch.word_offsets[1..]) {
                    let (mut sum, mut tokens, mut correct) = (0.0, 0u32, 0);
                    while let Some((_, token)) = rest.next_if(|(word, _)| (**word as usize) < *end)
                    {
                        sum += f64::from(token.loss);
                        tokens += 1;
                        correct += u64::from(token.correct);
                    }
                    rows.push(RowLoss {
                        line: data.lines[*row],
                        loss: sum / f64::from(tokens.max(1)),
                        tokens: u64::from(tokens),
                        correct,
                    });
                }
            }
            _ => unreachable!("an evaluation has the answers of its data"),
        }
        Ok(())
    }

    /// Counts of rows by true class (first index) and predicted class; empty without classes.
    pub(crate) fn confusion(&self) -> Vec<Vec<u64>> {
        let Self::Classes {
            predictions,
            classes,
            ..
        } = self
        else {
            return Vec::new();
        };
        let mut counts = vec![vec![0; *classes]; *classes];
        for prediction in predictions {
            counts[prediction.label][prediction.class()] += 1;
        }
        counts
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let (loss, accuracy, mut metrics) = match self {
            Self::Classes { predictions, .. } => {
                let confusion = self.confusion();
                let accuracy = accuracy(&confusion);
                let loss: f64 = predictions.iter().map(|p| p.loss).sum();
                (
                    loss / predictions.len().max(1) as f64,
                    accuracy,
                    Metrics::from([
                        ("valid_accuracy", accuracy),
                        ("valid_macro_f1", macro_f1(&confusion)),
                    ]),
                )
            }
            Self::Tokens(rows) => {
                let tokens = rows.iter().map(|row| row.tokens).sum::<u64>().max(1) as f64;
                let loss = rows
                    .iter()
                    .map(|row| row.loss * row.tokens as f64)
                    .sum::<f64>()
                    / tokens;
                let correct: u64 = rows.iter().map(|row| row.correct).sum();
                let accuracy = correct as f64 / tokens;
                (
                    loss,
                    accuracy,
                    Metrics::from([
                        ("valid_perplexity", loss.exp()),
                        ("valid_mean_token_accuracy", accuracy),
                    ]),
                )
            }
        };
        metrics.set("valid_loss", loss);
        metrics.set("full_valid_loss", loss);
        metrics.set("full_valid_mean_token_accuracy", accuracy);
        metrics
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
