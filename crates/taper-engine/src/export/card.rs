use std::fmt::Write;

use taper_core::Method;

use super::Export;

/// The model card: what the weights are, what they were made from, how, and how good they are.
pub(super) fn card(export: &Export<'_>) -> String {
    let spec = &export.run.spec;
    let (library, what) = match spec.tuning.method {
        Method::Lora(_) => ("peft", "A LoRA adapter for"),
        Method::Full => ("transformers", "A fine-tuned copy of"),
    };
    let mut text = format!(
        "---\nbase_model: {base}\nlibrary_name: {library}\npipeline_tag: text-classification\ntags:\n- taper\n- {method}\n---\n\n\
         # {base}, {method}\n\n{what} `{base}` that sorts texts into {classes}. Made by taper {version} in job `{job}`.\n",
        base = spec.model,
        method = spec.tuning.method.name(),
        classes = export
            .data
            .classes
            .names()
            .iter()
            .map(|c| format!("`{}`", c.replace('`', "'")))
            .collect::<Vec<_>>()
            .join(", "),
        version = env!("CARGO_PKG_VERSION"),
        job = export.run.job_id,
    );
    text.push_str(&usage(export));
    text.push_str("\n## Data\n\n| part | rows | file | sha256 |\n| --- | --- | --- | --- |\n");
    let mut part = |name: &str, rows: usize, file: &taper_core::DataFile| {
        let filename = file.filename.replace(['|', '\n', '\r'], " ");
        writeln!(text, "| {name} | {rows} | {filename} | `{}` |", file.sha256).ok();
    };
    part(
        "training",
        export.data.training.len(),
        &export.run.training_file,
    );
    if let Some(validation) = &export.data.validation {
        part(
            "validation",
            validation.len(),
            export
                .run
                .validation_file
                .as_ref()
                .unwrap_or(&export.run.training_file),
        );
    }
    if let Some(share) = spec.training.eval_split {
        writeln!(
            text,
            "\nThe validation rows are {share} of the training file, held out by seed."
        )
        .ok();
    }
    text.push_str("\n## Figures\n\n| figure | value |\n| --- | --- |\n");
    for (name, value) in export.metrics.to_json() {
        writeln!(text, "| {name} | {value} |").ok();
    }
    let settings = serde_json::json!({"tuning": spec.tuning, "training": spec.training});
    let settings = serde_json::to_string_pretty(&settings).unwrap_or_default();
    write!(text, "\n## Settings\n\n```json\n{settings}\n```\n").ok();
    text
}

fn usage(export: &Export<'_>) -> String {
    let classes = export.data.classes.len();
    let load = match export.run.spec.tuning.method {
        Method::Lora(_) => format!(
            "from peft import PeftModel\nfrom transformers import AutoModelForSequenceClassification\n\n\
             base = AutoModelForSequenceClassification.from_pretrained(\"{}\", num_labels={classes})\n\
             model = PeftModel.from_pretrained(base, \"PATH_OF_THIS_FOLDER\")",
            export.run.spec.model
        ),
        Method::Full => "from transformers import AutoModelForSequenceClassification\n\n\
                         model = AutoModelForSequenceClassification.from_pretrained(\"PATH_OF_THIS_FOLDER\")"
            .to_owned(),
    };
    format!("\n## Use\n\n```python\n{load}\n```\n\nClass names by id are in `taper_job.json`.\n")
}
