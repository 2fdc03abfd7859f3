//! What a finished run leaves behind: adapter or model, card, figures, predictions. How an adapter is written is said by its method
//! (`methods/lora/export.rs`, `methods/prompt_tuning.rs`).

mod base_name;
mod card;
mod check;
mod figures;
mod generation;
mod model;
mod rows;
mod tensorboard;
mod usage;

pub(crate) use check::Check;

use base_name::BaseName;

use std::{fs, path::Path};

use serde_json::{Value, json};
use taper_core::{Metrics, RunSpec};

use crate::{
    Result,
    adapter::{Tuned, write_adapter},
    error::Doing,
    evaluation::Evaluation,
    history::Logged,
    methods::tuner,
    model_folder::ModelFolder,
    models::Model,
    prepare::Prepared,
    text_file::{write_json, write_text},
};

/// Everything that goes into the artifacts of a run.
pub(crate) struct Export<'a> {
    pub(crate) run: &'a RunSpec,
    pub(crate) data: &'a Prepared,
    pub(crate) model: &'a Model,
    /// Last value of every figure.
    pub(crate) metrics: &'a Metrics,
    /// Every logged figure, in the order of its step.
    pub(crate) history: &'a [Logged],
    /// Of the validation rows, by the weights that are published.
    pub(crate) evaluation: Option<&'a Evaluation>,
}

impl Export<'_> {
    /// Writes all artifacts into `dir`.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let tuner = tuner(&self.run.spec.tuning.method, self.folder().arch.layers())?;
        let format = tuner.adapter_format();
        let target = dir.join(format.map_or("model", |_| "adapter"));
        fs::create_dir_all(&target).doing(|| "cannot create the output folder".to_owned())?;
        let base = BaseName::of(self.run, self.folder());
        if let Some(format) = format {
            let tuned = Tuned {
                base_model: &base.name,
                arch: &self.folder().arch,
                task: self.data.task,
                model: self.model,
            };
            write_adapter(&tuned, format, &target)?
        } else {
            model::write_model(self, &target)?
        }
        self.folder().copy_tokenizer(&target)?;
        generation::write_generation(self, &target)?;
        write_json(&target.join("taper_job.json"), &self.job())?;
        write_text(&target.join("README.md"), &card::card(self, &base, &*tuner))?;
        figures::write_figures(self, dir)?;
        let events = dir.join("tensorboard");
        fs::create_dir_all(&events)
            .and_then(|()| {
                fs::write(
                    events.join(self.event_file_name()),
                    tensorboard::event_file(self.history),
                )
            })
            .doing(|| "cannot write the TensorBoard file".to_owned())
    }

    /// The name that TensorBoard looks for, with the start of the run in it.
    fn event_file_name(&self) -> String {
        let start = self
            .history
            .first()
            .map_or(0.0, |logged| logged.unix_seconds);
        format!("events.out.tfevents.{:010}.taper", start as u64)
    }

    fn folder(&self) -> &ModelFolder {
        &self.data.folder
    }

    /// How the weights came about, for those who find them later.
    fn job(&self) -> Value {
        let file = |f: &taper_core::DataFile| json!({"id": f.id, "filename": f.filename, "sha256": f.sha256});
        json!({
            "job_id": self.run.job_id,
            "taper_version": env!("CARGO_PKG_VERSION"),
            "spec": self.run.spec,
            "training_file": file(&self.run.training_file),
            "validation_file": self.run.validation_file.as_ref().map(file),
            "task_type": self.data.task,
            "num_labels": self.data.classes.len(),
            "id2label": self.data.classes.by_id(),
            "label2id": self.data.classes.by_name(),
            "metrics": self.metrics.to_json(),
        })
    }
}
