//! Texts with a class. The head is a classifier on one token of each sequence, the loss the cross-entropy of its logits.

use serde_json::{Value, json};
use taper_core::Metrics;

use super::{Card, ClassScore, Loss, Means, Score, Task};
use crate::{
    Result,
    data::{Batch, Classes, Part, Row},
    families::Description,
    models::{Head, Model, Pass},
    ops,
};

pub(super) struct SequenceClassification;

impl Task for SequenceClassification {
    fn classes(&self, training: &[Row]) -> Result<Classes> {
        Classes::of(training)
    }

    fn check_validation(&self, classes: &Classes, validation: &[Row]) -> Result<()> {
        classes.ids(validation, Part::Validation).map(drop)
    }

    fn suits(&self, _: &Description) -> bool {
        true
    }

    fn head(&self, classes: usize) -> Head {
        Head::Classes(classes)
    }

    fn loss(
        &self,
        model: &Model,
        pass: &Pass<'_>,
        batch: &Batch,
        mean_over: usize,
    ) -> Result<Loss> {
        let logits = model.classify(pass, batch)?;
        let value = ops::cross_entropy(pass.tape, &logits, &batch.targets.ids, mean_over)?;
        Ok(Loss { value, correct: 0 })
    }

    fn score(&self, model: &Model, pass: &Pass<'_>, batch: &Batch) -> Result<Vec<Score>> {
        let logits: Vec<Vec<f32>> = model.classify(pass, batch)?.tensor.to_vec2()?;
        let rows = logits.into_iter().zip(&batch.targets.ids);
        Ok(rows
            .map(|(logits, label)| score(*label as usize, logits))
            .collect())
    }

    fn outputs(&self, model: &Model, pass: &Pass<'_>, batch: &Batch) -> Result<Vec<f32>> {
        let logits = model.classify(pass, batch)?;
        Ok(logits.tensor.flatten_all()?.to_vec1()?)
    }

    fn figures(&self, scores: &[Score], means: Means) -> Metrics {
        Metrics::from([
            ("valid_accuracy", means.accuracy),
            ("valid_macro_f1", macro_f1(&self.confusion(scores))),
        ])
    }

    fn confusion(&self, scores: &[Score]) -> Vec<Vec<u64>> {
        let rows = || scores.iter().filter_map(|score| score.class.as_ref());
        let classes = rows().next().map_or(0, |class| class.logits.len());
        let mut counts = vec![vec![0; classes]; classes];
        for class in rows() {
            counts[class.label][class.predicted()] += 1;
        }
        counts
    }

    fn columns(&self) -> &'static [&'static str] {
        &["label", "prediction"]
    }

    fn cells(&self, score: &Score, classes: &[String]) -> Vec<String> {
        let class = score.class.as_ref();
        let cells = class.map(|class| [class.label, class.predicted()]);
        cells
            .into_iter()
            .flatten()
            .map(|id| classes[id].clone())
            .collect()
    }

    fn prediction(&self, (row, line): (usize, u64), score: &Score, classes: &[String]) -> Value {
        let class = score.class.as_ref();
        json!({
            "row": row,
            "line": line,
            "label": class.map(|class| &classes[class.label]),
            "prediction": class.map(|class| &classes[class.predicted()]),
            "logits": class.map(|class| &class.logits),
        })
    }

    fn architecture(&self, family: &Description) -> String {
        format!("{}ForSequenceClassification", family.class_prefix)
    }

    fn write_config(&self, config: &mut Value, classes: &Classes) {
        config["id2label"] = json!(classes.by_id());
        config["label2id"] = json!(classes.by_name());
        config["problem_type"] = json!("single_label_classification");
    }

    fn heads(&self) -> &'static [&'static str] {
        &["classifier", "score"]
    }

    fn card(&self, classes: &[String]) -> Card {
        let names = classes.iter().map(|c| format!("`{}`", c.replace('`', "'")));
        Card {
            pipeline: "text-classification",
            does: format!("sorts texts into {}", names.collect::<Vec<_>>().join(", ")),
            auto_class: "AutoModelForSequenceClassification",
            arguments: format!(", num_labels={}", classes.len()),
            note: "\nClass names by id are in `taper_job.json`.\n",
        }
    }
}

impl ClassScore {
    /// The class with the largest logit.
    fn predicted(&self) -> usize {
        let best = self
            .logits
            .iter()
            .enumerate()
            .max_by(|a, b| a.1.total_cmp(b.1));
        best.map_or(0, |(class, _)| class)
    }
}

fn score(label: usize, logits: Vec<f32>) -> Score {
    let wide = |logit: &f32| f64::from(*logit);
    let max = logits.iter().map(wide).fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = logits.iter().map(|logit| (wide(logit) - max).exp()).sum();
    let loss = total.ln() + max - wide(&logits[label]);
    let class = ClassScore { label, logits };
    Score {
        loss,
        targets: 1,
        correct: u64::from(class.predicted() == label),
        class: Some(class),
    }
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
    fn macro_f1_follows_scikit_learn() {
        // sklearn.metrics on y_true = [0]*5 + [1]*3 + [2]*2, y_pred = [0]*4 + [1] + [1]*2 + [0] + [1]*2: macro F1 0.4333…
        let confusion = vec![vec![4, 1, 0], vec![1, 2, 0], vec![0, 2, 0]];
        assert!((macro_f1(&confusion) - (0.8 + 0.5) / 3.0).abs() < 1e-12);
        let unused = vec![vec![1, 0, 0], vec![0, 1, 0], vec![0, 0, 0]];
        assert_eq!(macro_f1(&unused), 1.0);
    }

    #[test]
    fn rows_are_counted_by_true_and_predicted_class() {
        let scores = [
            score(0, vec![2.0, 1.0]),
            score(0, vec![0.0, 1.0]),
            score(1, vec![0.0, 1.0]),
        ];
        let confusion = SequenceClassification.confusion(&scores);
        assert_eq!(confusion, [[1, 1], [0, 1]]);
        assert_eq!(scores.map(|score| score.correct), [1, 0, 1]);
    }
}
