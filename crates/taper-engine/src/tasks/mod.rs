//! The tasks, a file each: which rows it is learned from, the head and the loss, how an evaluation scores a row, and what the export says
//! of it. Data, models, evaluation and export ask a [`Task`] and do not know which there are.

mod causal_lm;
mod sequence_classification;

use serde_json::Value;
use taper_core::{Control, Metrics, Sample, TaskType};

use crate::{
    Result,
    data::{Batch, Classes, Content, Encoded, Row, TokenizerSetup},
    families::Description,
    models::{Head, Model, Pass},
    tape::Value as TapeValue,
};

/// What a model is tuned for.
pub(crate) trait Task: Sync {
    /// The classes that training rows tell apart; none where the task has none.
    ///
    /// # Errors
    /// Rows that cannot be told apart.
    fn classes(&self, training: &[Row]) -> Result<Classes>;

    /// # Errors
    /// A validation row that the training rows have not prepared for, with its line.
    fn check_validation(&self, classes: &Classes, validation: &[Row]) -> Result<()>;

    /// Whether models of a family can be tuned for it.
    fn suits(&self, family: &Description) -> bool;

    /// What the model gets above its layers.
    fn head(&self, classes: usize) -> Head;

    /// The loss of a batch; `mean_over` is the number of targets of the whole optimizer step.
    fn loss(&self, model: &Model, pass: &Pass<'_>, batch: &Batch, mean_over: usize)
    -> Result<Loss>;

    /// What the model makes of each sequence of a batch.
    fn score(&self, model: &Model, pass: &Pass<'_>, batch: &Batch) -> Result<Vec<Score>>;

    /// Numbers that two models have in common only if they are the same, of each sequence or token.
    fn outputs(&self, model: &Model, pass: &Pass<'_>, batch: &Batch) -> Result<Vec<f32>>;

    /// The name of the share of targets that are predicted rightly in training, where it is counted.
    fn training_accuracy(&self) -> Option<&'static str> {
        None
    }

    /// The figures of an evaluation, beside its loss and the share of targets predicted rightly.
    fn figures(&self, scores: &[Score], means: Means) -> Metrics;

    /// Counts of rows by true class (first index) and predicted class; empty without classes.
    fn confusion(&self, _: &[Score]) -> Vec<Vec<u64>> {
        Vec::new()
    }

    /// Columns that the table of validation rows has beside the common ones.
    fn columns(&self) -> &'static [&'static str] {
        &[]
    }

    /// The cells of those columns; `classes` are the names of the classes.
    fn cells(&self, _: &Score, _classes: &[String]) -> Vec<String> {
        Vec::new()
    }

    /// What the model makes of a row, for `eval_predictions.jsonl`. `row` and `line` say which row it is.
    fn prediction(&self, place: (usize, u64), score: &Score, classes: &[String]) -> Value;

    /// Whether the tuned model writes texts, so that it has to be known where they end.
    fn writes(&self) -> bool {
        false
    }

    /// Lets the model write a few texts, where it can, each up to one of the tokens that end it.
    ///
    /// # Errors
    /// A request to stop.
    fn samples(
        &self,
        _: &Model,
        _: &Encoded,
        _: (&TokenizerSetup, &[u32]),
        _: &Control,
    ) -> Result<Vec<Sample>> {
        Ok(Vec::new())
    }

    /// The class of transformers that loads the tuned model.
    fn architecture(&self, family: &Description) -> String;

    /// Puts into `config.json` what a whole model of this task has there, beside its architecture.
    fn write_config(&self, _config: &mut Value, _classes: &Classes) {}

    /// Modules above the base that PEFT saves with every adapter.
    fn heads(&self) -> &'static [&'static str] {
        &[]
    }

    /// What the model card says of it.
    fn card(&self, classes: &[String]) -> Card;
}

/// The task of that name. Here tasks are told apart by name, and nowhere else in the engine.
pub(crate) fn task(kind: TaskType) -> &'static dyn Task {
    match kind {
        TaskType::SeqCls => &sequence_classification::SequenceClassification,
        TaskType::CausalLm => &causal_lm::CausalLm,
    }
}

/// What a row trains a model for.
pub(crate) fn task_of(row: &Row) -> TaskType {
    match row.content {
        Content::Labelled { .. } => TaskType::SeqCls,
        Content::Completion { .. } | Content::Chat { .. } | Content::Text(_) => TaskType::CausalLm,
    }
}

/// The loss of a batch.
pub(crate) struct Loss {
    /// The sum over the targets divided by what the mean is over.
    pub(crate) value: TapeValue,
    /// Targets predicted rightly, where training counts them.
    pub(crate) correct: u64,
}

/// How well the tuned model predicts one row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Score {
    /// Mean over its targets.
    pub(crate) loss: f64,
    /// Targets of the row: one class, or the tokens that the loss covers.
    pub(crate) targets: u64,
    /// Those of them predicted rightly.
    pub(crate) correct: u64,
    /// What is known where the row has a class.
    pub(crate) class: Option<ClassScore>,
}

/// The class of a row and what the model says to each.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ClassScore {
    pub(crate) label: usize,
    pub(crate) logits: Vec<f32>,
}

/// Means over all targets of an evaluation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Means {
    pub(crate) loss: f64,
    pub(crate) accuracy: f64,
}

/// What a model card says of a task.
pub(crate) struct Card {
    /// Hugging Face's name of the task.
    pub(crate) pipeline: &'static str,
    /// Behind "that …".
    pub(crate) does: String,
    /// The class of transformers that finds the right one.
    pub(crate) auto_class: &'static str,
    /// What that class has to be told.
    pub(crate) arguments: String,
    /// Below the lines that load the model.
    pub(crate) note: &'static str,
}
