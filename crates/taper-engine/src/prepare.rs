//! What a run needs before its first step: rows, classes, tokens, the plan.

use std::sync::Arc;

use taper_core::{
    Control, DataFile, Defaults, FieldError, JobSpec, Method, Plan, RunSpec, TaskType, Training,
    code,
};

use crate::{
    Result,
    cache::Cache,
    checkpoint::ModelFolder,
    data::{Classes, Encoded, Row, encode, hold_out, read_rows},
    models::{Model, check_method},
};

/// The data of a run, tokenized, and the model folder it is for.
pub(crate) struct Prepared {
    pub(crate) folder: ModelFolder,
    pub(crate) classes: Classes,
    pub(crate) training: Encoded,
    pub(crate) validation: Option<Encoded>,
    /// Line of each validation row in its file.
    pub(crate) validation_lines: Vec<u64>,
}

/// Rows by the file's hash, so that a file that many jobs name is parsed once.
pub(crate) type RowCache = Cache<Vec<Row>>;

fn rows_of(cache: &RowCache, file: &DataFile, param: &str, code: &str) -> Result<Arc<Vec<Row>>> {
    // The ending of the name decides how the bytes are read, so it is part of the key.
    let key = format!(
        "{} {}",
        file.sha256,
        file.filename.to_ascii_lowercase().ends_with(".csv")
    );
    cache.get_or_make(&key, || read_rows(file, param, code))
}

/// Training and validation rows, and the classes of the former.
struct Rows {
    training: Arc<Vec<Row>>,
    validation: Option<Arc<Vec<Row>>>,
    classes: Classes,
}

impl Rows {
    fn of(cache: &RowCache, run: &RunSpec) -> Result<Self> {
        let training = rows_of(
            cache,
            &run.training_file,
            "training_file",
            code::INVALID_TRAINING_FILE,
        )?;
        let classes = Classes::of(&training)?;
        if let Some(file) = &run.validation_file {
            let validation = rows_of(
                cache,
                file,
                "validation_file",
                code::INVALID_VALIDATION_FILE,
            )?;
            classes.ids(&validation)?;
            return Ok(Self {
                training,
                validation: Some(validation),
                classes,
            });
        }
        let Some(share) = run.spec.training.eval_split else {
            return Ok(Self {
                training,
                validation: None,
                classes,
            });
        };
        let (training, validation) = hold_out(training.to_vec(), share, run.spec.training.seed);
        if validation.is_empty() {
            let message = format!(
                "'training.eval_split' of {share} leaves no validation row; raise it or add a validation_file"
            );
            return Err(FieldError::invalid("training.eval_split", message).into());
        }
        Ok(Self {
            training: Arc::new(training),
            validation: Some(Arc::new(validation)),
            classes,
        })
    }
}

/// Looks at model folder, settings and rows and fills in the defaults that depend on them.
pub(crate) fn inspect(cache: &RowCache, run: &RunSpec) -> Result<JobSpec> {
    let folder = ModelFolder::open(&run.model_dir)?;
    folder.weights()?;
    folder.tokenizer()?;
    check_method(&folder.arch, &run.spec.tuning.method)?;
    let rows = Rows::of(cache, run)?;
    check_warmup(&run.spec.training, rows.training.len())?;
    let defaults = Defaults {
        task_type: TaskType::SeqCls,
        target_modules: folder.arch.default_target_modules(),
        model_max_length: folder.arch.max_length() as u64,
    };
    Ok(run.spec.clone().resolve(&defaults)?)
}

fn check_warmup(training: &Training, rows: usize) -> Result<()> {
    let (_, total) = training.steps(rows as u64);
    let warmup = training.warmup(total);
    if warmup > total {
        let message = format!(
            "'training.warmup_steps' is {warmup}, but the run has only {total} steps; lower it or train longer"
        );
        return Err(FieldError::invalid("training.warmup_steps", message).into());
    }
    Ok(())
}

impl Prepared {
    /// Reads and tokenizes the data of a run.
    pub(crate) fn of(cache: &RowCache, run: &RunSpec, control: &Control) -> Result<Self> {
        let folder = ModelFolder::open(&run.model_dir)?;
        let tokenizer = folder.tokenizer()?;
        let rows = Rows::of(cache, run)?;
        let max_length = run
            .spec
            .training
            .max_length
            .map_or(512, |n| n as usize)
            .min(folder.arch.max_length());
        let encode = |rows: &[Row], classes: &Classes| {
            encode(&tokenizer, rows, classes.ids(rows)?, max_length, control)
        };
        let training = encode(&rows.training, &rows.classes)?;
        let validation = rows
            .validation
            .as_ref()
            .map(|rows_| encode(rows_, &rows.classes))
            .transpose()?;
        let validation_lines = rows
            .validation
            .iter()
            .flat_map(|rows| rows.iter().map(|row| row.line))
            .collect();
        Ok(Self {
            folder,
            classes: rows.classes,
            training,
            validation,
            validation_lines,
        })
    }

    /// What the run will do.
    pub(crate) fn plan(
        &self,
        run: &RunSpec,
        trainable_parameters: u64,
        total_parameters: u64,
    ) -> Plan {
        let validation = self.validation.as_ref();
        Plan {
            training_rows: self.training.len() as u64,
            validation_rows: validation.map_or(0, |v| v.len() as u64),
            training_tokens: self.training.tokens(),
            validation_tokens: validation.map_or(0, Encoded::tokens),
            truncated_rows: self.training.truncated + validation.map_or(0, |v| v.truncated),
            total_steps: run.spec.training.steps(self.training.len() as u64).1,
            trainable_parameters,
            total_parameters,
            classes: self.classes.names().to_vec(),
        }
    }

    /// Loads the model for these classes.
    pub(crate) fn model(&self, run: &RunSpec, device: &candle_core::Device) -> Result<Model> {
        let spec = &run.spec;
        let method: &Method = &spec.tuning.method;
        Model::load(
            &self.folder,
            method,
            self.classes.len(),
            device,
            spec.training.seed,
        )
    }
}
