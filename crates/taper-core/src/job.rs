use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    ErrorCode, FieldError, Project, SpecError, TaskType, Training, Tuning,
    fields::{Fields, shown},
    openai::{self, Hyperparameters},
};

/// What a user wants trained: the create body of a fine-tuning job, checked and with its defaults filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Name of a model folder, or of what an earlier job has made.
    pub model: String,
    /// Id of an uploaded file.
    pub training_file: String,
    pub validation_file: Option<String>,
    /// Fields of the rows and the names that the files have for them; the others have their own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
    /// A user's own part of the tuned model's name.
    pub suffix: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub tuning: Tuning,
    pub training: Training,
    /// OpenAI's factor on the method's default learning rate.
    pub learning_rate_multiplier: f64,
    /// Fields of OpenAI's body that are accepted and not acted on.
    pub ignored: Vec<String>,
}

/// What only a look at the model and the data can tell about a job's defaults.
#[derive(Debug, Clone)]
pub struct Defaults {
    pub task_type: TaskType,
    /// The usual LoRA targets of the model's family.
    pub target_modules: Vec<String>,
    /// The longest row in tokens that the model takes.
    pub model_max_length: u64,
    /// The `max_length` of a job that does not say one: of its longest row, where that is known.
    pub default_max_length: u64,
}

/// The fields of a row that taper looks at, and so those that `columns` can give another name.
pub const DATA_FIELDS: [&str; 18] = [
    "text",
    "label",
    "prompt",
    "completion",
    "instruction",
    "input",
    "output",
    "messages",
    "conversations",
    "system",
    "history",
    "tools",
    "functions",
    "documents",
    "chat_template_kwargs",
    "chosen",
    "rejected",
    "preferred_output",
];

const METADATA_PAIRS: usize = 16;
const METADATA_KEY_CHARS: usize = 64;
const METADATA_VALUE_CHARS: usize = 512;
const SUFFIX_CHARS: usize = 64;

impl JobSpec {
    /// Reads the create body and tells all that is wrong with it by itself; ids, model folder and data are checked later.
    ///
    /// # Errors
    /// Every finding with the path of its field.
    pub fn parse(body: &Value) -> Result<Self, SpecError> {
        let Some(object) = body.as_object() else {
            return Err(FieldError::invalid(
                "",
                format!("the body must be a JSON object, not {}", shown(body)),
            )
            .into());
        };
        Self::read(Fields::new("", object))
    }

    /// As [`JobSpec::parse`], from a body of which other fields may have been read already.
    pub(crate) fn read(mut fields: Fields<'_>) -> Result<Self, SpecError> {
        let mut nested = Vec::new();
        let model = required_name(&mut fields, "model");
        let training_file = required_name(&mut fields, "training_file");
        let validation_file = fields.string("validation_file").map(str::to_owned);
        let columns = columns(&mut fields);
        let suffix = suffix(&mut fields);
        let metadata = metadata(&mut fields);
        let mut training = Training::default();
        if let Some(seed) = fields.integer("seed", 0..=i64::from(i32::MAX)) {
            training.seed = seed as u64;
        }
        let mut hyperparameters = Hyperparameters::default();
        if let Some(object) = fields.object("hyperparameters") {
            hyperparameters.read("hyperparameters", object, &mut nested);
        }
        let method = fields
            .object("method")
            .and_then(|object| openai::method(object, &mut hyperparameters, &mut nested));
        hyperparameters.apply(&mut training);
        let tuning = fields
            .object("tuning")
            .map(|object| Tuning::parse("tuning", object, &mut nested));
        if tuning.is_some() && method.is_some() {
            fields.reject(
                "tuning",
                "and a tuning method in 'method' say the same thing twice; leave one out",
            );
        }
        if let Some(object) = fields.object("training") {
            training = training.parse(object, &mut nested);
        }
        check_validation(&training, validation_file.is_some(), &mut nested);
        let ignored = fields
            .value("integrations")
            .map(|_| "integrations".to_owned())
            .into_iter()
            .collect();
        let mut errors = fields.finish();
        errors.append(&mut nested);
        SpecError::check(errors)?;
        Ok(Self {
            model,
            training_file,
            validation_file,
            columns,
            suffix,
            metadata,
            tuning: tuning.or(method).unwrap_or_default(),
            training,
            learning_rate_multiplier: hyperparameters.learning_rate_multiplier.unwrap_or(1.0),
            ignored,
        })
    }

    /// The base model's name: of a model that a job has made, the one that stands in its name.
    fn base(&self) -> &str {
        let tuned = self.model.strip_prefix("ft:");
        tuned
            .and_then(|name| name.split(':').next())
            .unwrap_or(&self.model)
    }

    /// The name of the tuned model of a project's job: `ft:{base}:{project}:{suffix}:{mark}`, as OpenAI forms it.
    pub fn tuned_model_name(&self, project: &Project, job_id: &str) -> String {
        let suffix = self.suffix.as_deref().unwrap_or_default();
        // The end of an id is random; its beginning is the time.
        let mark = &job_id[job_id.len().saturating_sub(8)..];
        format!("ft:{}:{project}:{suffix}:{mark}", self.base())
    }

    /// Fills in the defaults that depend on the model and the data, so that the job's answer shows every value in force.
    ///
    /// # Errors
    /// A `tuning.task_type` that contradicts the data.
    pub fn resolve(mut self, defaults: &Defaults) -> Result<Self, SpecError> {
        let task = *self.tuning.task_type.get_or_insert(defaults.task_type);
        if task != defaults.task_type {
            let message = format!(
                "'tuning.task_type' is {}, but the training data is for {}",
                task.as_str(),
                defaults.task_type.as_str()
            );
            return Err(FieldError::invalid("tuning.task_type", message).into());
        }
        self.check_metric(task)?;
        self.tuning.method.resolve(defaults);
        let rate = self.tuning.method.default_learning_rate(task) * self.learning_rate_multiplier;
        self.training.learning_rate.get_or_insert(rate);
        let limit = defaults.model_max_length;
        let max_length = *self
            .training
            .max_length
            .get_or_insert(limit.min(defaults.default_max_length));
        if max_length > limit {
            let message = format!(
                "'training.max_length' is {max_length}, but the model takes at most {limit} tokens; lower it"
            );
            return Err(FieldError::invalid("training.max_length", message).into());
        }
        Ok(self)
    }
}

impl JobSpec {
    /// The metric for the best model must be one that the task is measured by.
    fn check_metric(&self, task: TaskType) -> Result<(), SpecError> {
        let metric = self.training.metric_for_best_model.as_str();
        let known = task.measured_by();
        if known.contains(&metric) {
            return Ok(());
        }
        let param = "training.metric_for_best_model";
        let message = format!(
            "'{param}' is {metric}, but {} is measured by {}",
            task.as_str(),
            known.join(", ")
        );
        Err(FieldError::invalid(param, message).into())
    }
}

fn required_name(fields: &mut Fields<'_>, name: &'static str) -> String {
    let read = fields.string(name);
    fields.require(name, read.is_some());
    read.unwrap_or_default().to_owned()
}

/// Validation data comes from one place, and some settings need it.
fn check_validation(training: &Training, validation_file: bool, errors: &mut Vec<FieldError>) {
    if validation_file && training.eval_split.is_some() {
        let message =
            "'training.eval_split' and 'validation_file' exclude each other; leave one out";
        errors.push(FieldError::invalid("training.eval_split", message));
    }
    if validation_file || training.eval_split.is_some() {
        return;
    }
    let evaluating = [
        (
            "training.load_best_model_at_end",
            training.load_best_model_at_end,
        ),
        (
            "training.early_stopping_patience",
            training.early_stopping_patience.is_some(),
        ),
        ("training.eval_steps", training.eval_steps.is_some()),
    ];
    for (param, _) in evaluating.into_iter().filter(|(_, given)| *given) {
        let message = format!(
            "'{param}' needs validation data; add 'validation_file' or 'training.eval_split'"
        );
        errors.push(FieldError::invalid(param, message));
    }
}

fn columns(fields: &mut Fields<'_>) -> BTreeMap<String, String> {
    let mut columns = BTreeMap::new();
    for (field, column) in fields.object("columns").into_iter().flatten() {
        if column.is_null() {
            continue;
        }
        let known = DATA_FIELDS.contains(&field.as_str());
        match column.as_str().filter(|name| known && !name.is_empty()) {
            Some(column) if columns.values().any(|other| other == column) => fields.reject(
                "columns",
                format_args!("gives the column {} to two fields", shown(&column.into())),
            ),
            Some(column) => {
                columns.insert(field.clone(), column.to_owned());
            }
            None if known => fields.reject(
                "columns",
                format_args!("must name a column for '{field}', not {}", shown(column)),
            ),
            None => fields.reject(
                "columns",
                format_args!(
                    "has {}, which is no field of a row; fields are {}",
                    shown(&field.as_str().into()),
                    DATA_FIELDS.join(", ")
                ),
            ),
        }
    }
    columns
}

fn suffix(fields: &mut Fields<'_>) -> Option<String> {
    let text = fields.string("suffix")?;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ');
    if text.is_empty() || text.len() > SUFFIX_CHARS || !text.chars().all(legal) {
        fields.reject(
            "suffix",
            format_args!("takes 1 to {SUFFIX_CHARS} letters, digits, '-', '_', '.' and blanks"),
        );
        return None;
    }
    Some(text.replace(' ', "-"))
}

fn metadata(fields: &mut Fields<'_>) -> BTreeMap<String, String> {
    let Some(object) = fields.object("metadata") else {
        return BTreeMap::new();
    };
    if object.len() > METADATA_PAIRS {
        fields.reject(
            "metadata",
            format_args!("takes at most {METADATA_PAIRS} pairs, not {}", object.len()),
        );
    }
    let mut pairs = BTreeMap::new();
    for (key, value) in object {
        match value.as_str() {
            Some(text) if key.chars().count() <= METADATA_KEY_CHARS && text.chars().count() <= METADATA_VALUE_CHARS => {
                pairs.insert(key.clone(), text.to_owned());
            }
            _ => fields.reject(
                "metadata",
                format_args!("takes strings: keys of at most {METADATA_KEY_CHARS} characters, values of at most {METADATA_VALUE_CHARS}"),
            ),
        }
    }
    pairs
}

impl FieldError {
    /// An unknown model in the body of a job.
    pub fn model_not_found(name: &str) -> Self {
        let message = format!(
            "the model {} does not exist; GET /v1/models lists what there is",
            shown(&Value::from(name))
        );
        Self::new("model", ErrorCode::ModelNotFound, message)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Method;

    fn findings(body: Value) -> Vec<(String, String)> {
        let error = JobSpec::parse(&body).unwrap_err();
        error
            .findings()
            .iter()
            .map(|f| (f.param.clone(), f.message.clone()))
            .collect()
    }

    fn with(extra: Value) -> Value {
        let mut body = json!({"model": "m", "training_file": "file-1"});
        body.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        body
    }

    #[test]
    fn a_small_body_gets_defaults() {
        let spec = JobSpec::parse(&with(json!({}))).unwrap();
        assert_eq!(spec.tuning, Tuning::default());
        assert_eq!(spec.training, Training::default());
        let defaults = Defaults {
            task_type: TaskType::SeqCls,
            target_modules: vec!["query".to_owned()],
            model_max_length: 256,
            default_max_length: 512,
        };
        let spec = spec.resolve(&defaults).unwrap();
        assert_eq!(spec.training.learning_rate, Some(1e-3));
        assert_eq!(spec.training.max_length, Some(256));
        let stored: JobSpec = serde_json::from_value(serde_json::to_value(&spec).unwrap()).unwrap();
        assert_eq!(stored, spec);
    }

    /// As the first build wrote one: what is added since must be read where it is missing.
    #[test]
    fn a_specification_that_an_older_build_has_stored_is_read() {
        let stored = json!({
            "model": "m", "training_file": "file-1", "validation_file": null, "suffix": null, "metadata": {},
            "tuning": {"type": "lora", "r": 8, "lora_alpha": 16.0, "lora_dropout": 0.1, "target_modules": null, "bias": "none",
                "task_type": null},
            "training": {"num_train_epochs": 3.0, "max_steps": -1, "per_device_train_batch_size": 16, "gradient_accumulation_steps": 1,
                "learning_rate": null, "lr_scheduler_type": "linear", "warmup_steps": 0.0, "weight_decay": 0.01, "max_grad_norm": 1.0,
                "logging_steps": 10.0, "eval_steps": null, "save_steps": null, "save_total_limit": 3, "load_best_model_at_end": false,
                "metric_for_best_model": "valid_loss", "early_stopping_patience": null, "max_length": null, "seed": 42,
                "eval_split": null},
            "learning_rate_multiplier": 1.0, "ignored": [],
        });
        let read: JobSpec = serde_json::from_value(stored).unwrap();
        assert_eq!(read, JobSpec::parse(&with(json!({}))).unwrap());
    }

    #[test]
    fn openai_hyperparameters_are_mapped_and_training_wins() {
        let spec = JobSpec::parse(&with(json!({
            "hyperparameters": {"n_epochs": 9, "batch_size": "auto"},
            "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "learning_rate_multiplier": 0.5}}},
            "training": {"per_device_train_batch_size": 4},
            "integrations": [],
        })))
        .unwrap();
        assert_eq!(
            (
                spec.training.num_train_epochs,
                spec.training.per_device_train_batch_size
            ),
            (2.0, 4)
        );
        assert_eq!(
            (spec.learning_rate_multiplier, spec.ignored),
            (0.5, vec!["integrations".to_owned()])
        );
        let spec =
            JobSpec::parse(&with(json!({"method": {"type": "lora", "lora": {"r": 4}}}))).unwrap();
        assert!(matches!(spec.tuning.method, Method::Lora(lora) if lora.r == 4));
    }

    #[test]
    fn bounds_of_openai_are_called_so() {
        let body = json!({"n_epochs": 60, "batch_size": 300});
        let found = findings(with(json!({"hyperparameters": body})));
        let messages: Vec<_> = found.iter().map(|(_, message)| message.as_str()).collect();
        let expected = [
            "'hyperparameters.n_epochs' must be a whole number from 1 to 50, not 60; that bound is OpenAI's, \
             'training.num_train_epochs' has none such",
            "'hyperparameters.batch_size' must be a whole number from 1 to 256, not 300; that bound is OpenAI's, \
             'training.per_device_train_batch_size' has none such",
        ];
        assert_eq!(messages, expected);
        let low = findings(with(json!({"hyperparameters": {"n_epochs": 0}})));
        assert!(low[0].1.ends_with("not 0"), "{}", low[0].1);
    }

    #[test]
    fn every_finding_names_its_field() {
        let got = findings(json!({
            "training_file": 3, "trainning": {}, "suffix": "a/b",
            "tuning": {"type": "lora", "r": 0, "lora_apha": 3},
            "training": {"learning_rate": -1e-4, "num_train_epochs": 0, "max_steps": 0, "warmup_steps": 1, "warmup_ratio": 0.1},
        }));
        let params: Vec<_> = got.iter().map(|(p, _)| p.as_str()).collect();
        assert_eq!(
            params,
            [
                "model",
                "training_file",
                "suffix",
                "trainning",
                "tuning.r",
                "tuning.lora_apha",
                "training.num_train_epochs",
                "training.max_steps",
                "training.learning_rate",
                "training.warmup_ratio",
            ]
        );
        assert_eq!(
            got[3].1,
            "unknown parameter: 'trainning'; did you mean 'training'?"
        );
        assert_eq!(
            got[5].1,
            "unknown parameter: 'tuning.lora_apha'; did you mean 'tuning.lora_alpha'?"
        );
    }

    #[test]
    fn columns_are_given_by_the_fields_that_they_are() {
        let columns = json!({"text": "review", "label": "stars", "system": null});
        let spec = JobSpec::parse(&with(json!({"columns": columns}))).unwrap();
        let wanted = [("label", "stars"), ("text", "review")];
        assert!(
            spec.columns
                .iter()
                .map(|(f, c)| (f.as_str(), c.as_str()))
                .eq(wanted)
        );
        let stored = serde_json::to_value(&spec).unwrap();
        assert_eq!(serde_json::from_value::<JobSpec>(stored).unwrap(), spec);
        for columns in [
            json!({"txt": "a"}),
            json!({"text": 1}),
            json!({"text": ""}),
            json!({"text": "a", "label": "a"}),
            json!([]),
        ] {
            assert_eq!(findings(with(json!({"columns": columns})))[0].0, "columns");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        assert_eq!(findings(json!([]))[0].0, "");
        assert_eq!(
            findings(with(json!({"tuning": {"type": "dora"}})))[0].0,
            "tuning.type"
        );
        for method in ["dpo", "reinforcement"] {
            let inner = json!({"hyperparameters": {"beta": 0.1}});
            let found = findings(with(json!({"method": {"type": method, method: inner}})));
            assert_eq!((found.len(), found[0].0.as_str()), (1, "method.type"));
            let message = format!(
                "'method.type' \"{method}\" is not supported yet; possible are supervised, lora"
            );
            assert!(found[0].1.starts_with(&message), "{}", found[0].1);
        }
        assert_eq!(
            findings(with(json!({"training": {"bf16": true}})))[0].0,
            "training.bf16"
        );
        assert_eq!(
            findings(with(json!({"training": {"eval_steps": 5}})))[0].0,
            "training.eval_steps"
        );
        let both = with(json!({"validation_file": "file-2", "training": {"eval_split": 0.1}}));
        assert_eq!(findings(both)[0].0, "training.eval_split");
    }
}
