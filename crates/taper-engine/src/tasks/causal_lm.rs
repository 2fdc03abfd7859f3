//! Texts to be continued. The head is the table of the vocabulary, the loss the cross-entropy of each covered token given those before it.

use serde_json::{Value, json};
use taper_core::{Control, Metrics, Sample};

use super::{Card, Loss, Means, Score, Task};
use crate::{
    Result,
    data::{Batch, Classes, Encoded, Row, Targets, TokenizerSetup},
    families::Description,
    models::{Head, Model, Pass},
};

/// Texts written at each evaluation.
const SAMPLES: usize = 2;
/// Tokens of one.
const SAMPLE_TOKENS: usize = 32;
/// What is given of a text that is trained from its start.
const GIVEN: usize = 16;

pub(super) struct CausalLm;

impl Task for CausalLm {
    fn classes(&self, _: &[Row]) -> Result<Classes> {
        Ok(Classes::none())
    }

    fn check_validation(&self, _: &Classes, _: &[Row]) -> Result<()> {
        Ok(())
    }

    fn suits(&self, family: &Description) -> bool {
        family.causal_lm_class.is_some()
    }

    fn head(&self, _: usize) -> Head {
        Head::Vocabulary
    }

    fn loss(
        &self,
        model: &Model,
        pass: &Pass<'_>,
        batch: &Batch,
        mean_over: usize,
    ) -> Result<Loss> {
        let loss = model.next_token_loss(pass, batch, mean_over)?;
        Ok(Loss {
            value: loss.loss,
            correct: loss.correct,
        })
    }

    fn score(&self, model: &Model, pass: &Pass<'_>, batch: &Batch) -> Result<Vec<Score>> {
        let each = model.next_token_loss(pass, batch, 1)?.each;
        let mut rest = batch.targets.tokens.iter().zip(&each).peekable();
        let score = |end: &usize| {
            let (mut sum, mut tokens, mut correct) = (0.0, 0u32, 0);
            while let Some((_, loss)) = rest.next_if(|(token, _)| (**token as usize) < *end) {
                sum += f64::from(loss.loss);
                tokens += 1;
                correct += u64::from(loss.correct);
            }
            Score {
                loss: sum / f64::from(tokens.max(1)),
                targets: u64::from(tokens),
                correct,
                class: None,
            }
        };
        Ok(batch.token_offsets[1..].iter().map(score).collect())
    }

    fn outputs(&self, model: &Model, pass: &Pass<'_>, batch: &Batch) -> Result<Vec<f32>> {
        let each = model.next_token_loss(pass, batch, 1)?.each;
        Ok(each.iter().map(|token| token.loss).collect())
    }

    fn training_accuracy(&self) -> Option<&'static str> {
        Some("train_mean_token_accuracy")
    }

    fn figures(&self, _: &[Score], means: Means) -> Metrics {
        Metrics::from([
            ("valid_perplexity", means.loss.exp()),
            ("valid_mean_token_accuracy", means.accuracy),
        ])
    }

    fn prediction(&self, (row, line): (usize, u64), score: &Score, _: &[String]) -> Value {
        json!({"row": row, "line": line, "loss": score.loss, "tokens": score.targets})
    }

    fn writes(&self) -> bool {
        true
    }

    /// The model continues the first rows, each from where its loss begins.
    fn samples(
        &self,
        model: &Model,
        data: &Encoded,
        (setup, ends): (&TokenizerSetup, &[u32]),
        control: &Control,
    ) -> Result<Vec<Sample>> {
        let Targets::Tokens(trained) = &data.targets else {
            return Ok(Vec::new());
        };
        let mut samples = Vec::new();
        for (ids, trained) in data.ids.iter().zip(trained).take(SAMPLES) {
            let begins = trained.iter().position(|trained| *trained).unwrap_or(0);
            let given = if begins == 0 {
                GIVEN.min(ids.len())
            } else {
                begins
            };
            let (prompt, reference) = ids.split_at(given);
            // As the completion, it goes to the first token at which the model has to stop.
            let stops = reference.iter().position(|id| ends.contains(id));
            let length = stops.unwrap_or(reference.len()).min(SAMPLE_TOKENS);
            let reference = &reference[..length];
            let written = model.generate(prompt, SAMPLE_TOKENS, ends, control)?;
            // A tokenizer that cannot spell its own tokens is no reason to stop a run.
            let text = |ids: &[u32]| setup.tokenizer.decode(ids, true).unwrap_or_default();
            samples.push(Sample {
                prompt: text(prompt),
                completion: text(&written),
                reference: text(reference),
            });
        }
        Ok(samples)
    }

    fn architecture(&self, family: &Description) -> String {
        family.causal_lm_class.unwrap_or_default().to_owned()
    }

    fn card(&self, _: &[String]) -> Card {
        Card {
            pipeline: "text-generation",
            does: "continues texts".to_owned(),
            auto_class: "AutoModelForCausalLM",
            arguments: String::new(),
            note: "",
        }
    }
}
