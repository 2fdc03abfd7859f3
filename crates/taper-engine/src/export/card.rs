use std::fmt::Write;

use taper_core::Produces;

use super::{Export, base_name::BaseName, usage::usage};
use crate::{methods::Tuner, tasks::task};

/// The model card: what the weights are, what they were made from, how, and how good they are.
pub(super) fn card(export: &Export<'_>, base: &BaseName, tuner: &dyn Tuner) -> String {
    let spec = &export.run.spec;
    let what = tuner.card();
    let library = match spec.tuning.method.descriptor().produces {
        Produces::Adapter => "peft",
        Produces::Model => "transformers",
    };
    let task = task(export.data.task).card(export.data.classes.names());
    let mut text = format!(
        "---\nbase_model: {base}\nlibrary_name: {library}\npipeline_tag: {pipeline}\ntags:\n- taper\n- {method}\n---\n\n\
         # {base}, {method}\n\n{what} `{base}` that {does}. Made by taper {version} in job `{job}`.\n",
        base = base.name,
        pipeline = task.pipeline,
        does = task.does,
        method = spec.tuning.method.name(),
        version = env!("CARGO_PKG_VERSION"),
        job = export.run.job_id,
    );
    text.push_str(&usage(export, base, &task));
    text.push_str(&data(export));
    text.push_str("\n## Figures\n\n| figure | value |\n| --- | --- |\n");
    for (name, value) in export.metrics.to_json() {
        writeln!(text, "| {name} | {value} |").ok();
    }
    let settings = serde_json::json!({"tuning": spec.tuning, "training": spec.training});
    let settings = serde_json::to_string_pretty(&settings).unwrap_or_default();
    write!(text, "\n## Settings\n\n```json\n{settings}\n```\n").ok();
    text
}

fn data(export: &Export<'_>) -> String {
    let mut text =
        "\n## Data\n\n| part | rows | file | sha256 |\n| --- | --- | --- | --- |\n".to_owned();
    let mut part = |name: &str, rows: usize, file: &taper_core::DataFile| {
        let filename = file.filename.replace(['|', '\n', '\r'], " ");
        writeln!(text, "| {name} | {rows} | {filename} | `{}` |", file.sha256).ok();
    };
    let (training, validation) = (
        &export.run.training_file,
        export.run.validation_file.as_ref(),
    );
    part("training", export.data.training.len(), training);
    if let Some(rows) = &export.data.validation {
        part("validation", rows.len(), validation.unwrap_or(training));
    }
    if let Some(share) = export.run.spec.training.eval_split {
        writeln!(
            text,
            "\nThe validation rows are {share} of the training file, held out by seed."
        )
        .ok();
    }
    text
}
