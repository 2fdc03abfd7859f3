//! What a run needs before its first step: rows, classes, tokens, the plan.

mod model_cache;
mod plan;

pub(crate) use model_cache::{Models, OpenModel};
pub(crate) use plan::{memory_bound, plan};

use std::sync::Arc;

use candle_core::Device;
use taper_core::{
    Control, DataFile, Defaults, FieldError, JobSpec, Method, RunSpec, StartWeights, TaskType,
    Training, Warning,
};

use crate::{
    Error, Result,
    cache::Cache,
    checkpoint,
    data::{
        Classes, Content, Encoded, Format, Part, Row, Source, TokenizerSetup, encode, hold_out,
        read_rows, truncated, units, warnings,
    },
    export::read_adapter,
    methods::LayerRates,
    model_folder::ModelFolder,
    models::{Model, check_method},
    tasks::{task, task_of},
};

/// The data of a run, tokenized, and the model folder it is for.
pub(crate) struct Prepared {
    pub(crate) folder: ModelFolder,
    pub(crate) setup: Arc<TokenizerSetup>,
    pub(crate) task: TaskType,
    /// Without names where the task has no classes.
    pub(crate) classes: Classes,
    pub(crate) training: Encoded,
    /// What batches of the training rows are counted in: rows that are drawn together.
    pub(crate) units: Vec<Vec<usize>>,
    pub(crate) validation: Option<Encoded>,
    /// What is odd about the rows.
    pub(crate) warnings: Vec<Warning>,
}

/// Rows by the file's hash, so that a file that many jobs name is parsed once.
pub(crate) type RowCache = Cache<Vec<Row>>;

/// What tells the rows of one file from those of another: the ending of its name decides how the bytes are read.
pub(crate) fn rows_key(file: &DataFile) -> String {
    format!("{} {:?}", file.sha256, Format::of(&file.filename))
}

fn rows_of(
    cache: &RowCache,
    file: &DataFile,
    part: Part,
    control: &Control,
) -> Result<Arc<Vec<Row>>> {
    cache.get_or_make(&rows_key(file), control, || read_rows(file, part))
}

/// What tells one run's data, as [`Prepared`] has it, from another's.
pub(crate) fn key(opened: &OpenModel, run: &RunSpec) -> String {
    let (spec, training) = (&run.spec, &run.spec.training);
    let held_out = training.eval_split.map(|share| (share, training.seed));
    let virtual_tokens = virtual_tokens(&spec.tuning.method);
    format!(
        "{} {} {:?} {held_out:?} {:?} {} {virtual_tokens}",
        opened.stamp,
        rows_key(&run.training_file),
        run.validation_file.as_ref().map(rows_key),
        training.max_length,
        training.packing,
    )
}

/// Training and validation rows, and the classes of the former.
pub(crate) struct Rows {
    pub(crate) training: Arc<Vec<Row>>,
    validation: Option<Arc<Vec<Row>>>,
    pub(crate) task: TaskType,
    pub(crate) classes: Classes,
}

impl Rows {
    pub(crate) fn of(cache: &RowCache, run: &RunSpec, control: &Control) -> Result<Self> {
        let training = rows_of(cache, &run.training_file, Part::Training, control)?;
        let kind = training.first().map_or(TaskType::SeqCls, task_of);
        let classes = task(kind).classes(&training)?;
        if let Some(file) = &run.validation_file {
            let validation = rows_of(cache, file, Part::Validation, control)?;
            check_same_task(kind, &validation)?;
            task(kind).check_validation(&classes, &validation)?;
            return Ok(Self {
                training,
                validation: Some(validation),
                task: kind,
                classes,
            });
        }
        let Some(share) = run.spec.training.eval_split else {
            return Ok(Self {
                training,
                validation: None,
                task: kind,
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
            task: kind,
            classes,
        })
    }
}

fn check_same_task(kind: TaskType, validation: &[Row]) -> Result<()> {
    match validation.first().map(task_of) {
        Some(other) if other != kind => {
            let message = format!(
                "the rows are for {}, but those of the training file for {}",
                other.as_str(),
                kind.as_str()
            );
            Err(Part::Validation.refuse(message).into())
        }
        _ => Ok(()),
    }
}

/// Looks at model folder, settings and rows and fills in the defaults that depend on them.
pub(crate) fn inspect(models: &Models, cache: &RowCache, run: &RunSpec) -> Result<JobSpec> {
    let control = Control::new();
    let opened = models.open(&run.model_dir, &control)?;
    let (folder, setup) = (&opened.folder, &opened.setup);
    check_method(&folder.arch, &run.spec.tuning.method)?;
    let rows = Rows::of(cache, run, &control)?;
    if !task(rows.task).suits(folder.arch.family()) {
        let message = format!(
            "the model is an encoder and cannot be tuned for {}; take a decoder, or rows of text and label",
            rows.task.as_str()
        );
        return Err(FieldError::invalid("tuning.task_type", message).into());
    }
    check_rates(&opened, &rows, &run.spec.tuning.method)?;
    setup.check(&rows.training, Part::Training)?;
    // Plain text is cut into blocks later, so its rows say nothing about the steps.
    if !matches!(rows.training[0].content, Content::Text(_)) {
        check_warmup(&run.spec.training, rows.training.len())?;
    }
    let defaults = Defaults {
        task_type: rows.task,
        target_modules: folder.arch.default_target_modules(),
        model_max_length: max_length(folder, &run.spec.tuning.method),
    };
    let spec = run.spec.clone().resolve(&defaults)?;
    if let Some(start) = &run.start_from {
        start.check(&spec.tuning.method, rows.classes.names())?;
    }
    Ok(spec)
}

/// # Errors
/// A key of `learning_rates` that means no parameter, and would leave the run without what it asks for.
fn check_rates(opened: &OpenModel, rows: &Rows, method: &Method) -> Result<()> {
    let Method::Layerwise(layerwise) = method else {
        return Ok(());
    };
    let (folder, classes) = (&opened.folder, rows.classes.len());
    let model = Model::outline(
        folder,
        &opened.weights,
        &Method::Full,
        task(rows.task).head(classes),
    )?;
    let parameters = model.parameters.list;
    let names: Vec<_> = parameters.iter().map(|p| p.name.clone()).collect();
    let rates = LayerRates::new(layerwise, folder.arch.layers())?;
    let param = "tuning.learning_rates";
    let Some(key) = rates.unmatched(&names).first().copied() else {
        for parameter in &parameters {
            if rates.trains(&parameter.name, parameter.group)? {
                return Ok(());
            }
        }
        let message = format!(
            "'{param}' is 0 for all parameters, so that nothing would be trained; leave one out"
        );
        return Err(FieldError::invalid(param, message).into());
    };
    let weight = |name: &&String| name.ends_with(".weight");
    let example = names.iter().rfind(weight).map_or("", String::as_str);
    let message = format!(
        "'{param}': '{key}' matches no parameter of the model; a key must match a whole name, such as {example}"
    );
    Err(FieldError::invalid(param, message).into())
}

/// The longest row that the model takes behind the virtual tokens, if the method has any.
fn max_length(folder: &ModelFolder, method: &Method) -> u64 {
    (folder.arch.max_length() as u64).saturating_sub(virtual_tokens(method))
}

pub(crate) fn virtual_tokens(method: &Method) -> u64 {
    match method {
        Method::PromptTuning(prompt) => prompt.num_virtual_tokens,
        Method::Full | Method::Layerwise(_) | Method::Lora(_) => 0,
    }
}

/// Tokens to which rows are cut.
pub(crate) fn max_length_in_force(folder: &ModelFolder, run: &RunSpec) -> usize {
    let limit = max_length(folder, &run.spec.tuning.method);
    run.spec.training.max_length.unwrap_or(512).min(limit) as usize
}

/// # Errors
/// A token that the model has no embedding for.
fn check_vocabulary<'a>(
    folder: &ModelFolder,
    mut ids: impl Iterator<Item = &'a u32>,
) -> Result<()> {
    let size = folder.arch.vocab_size();
    match ids.find(|id| **id as usize >= size) {
        None => Ok(()),
        Some(id) => Err(Error::model(format!(
            "the tokenizer writes the token {id}, but the embeddings have only {size} rows; take the model's own tokenizer, or resize its embeddings"
        ))),
    }
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
    pub(crate) fn of(
        opened: &OpenModel,
        cache: &RowCache,
        run: &RunSpec,
        control: &Control,
    ) -> Result<Self> {
        let rows = Rows::of(cache, run, control)?;
        let (folder, setup) = (opened.folder.clone(), opened.setup.clone());
        let folder = folder.for_classes(rows.classes.names());
        let max_length = max_length_in_force(&folder, run);
        let tokens = |rows_: &Arc<Vec<Row>>, part| {
            encode(
                &setup,
                Source { rows: rows_, part },
                &rows.classes,
                max_length,
                control,
            )
        };
        let mut training = tokens(&rows.training, Part::Training)?;
        let mut validation = rows
            .validation
            .as_ref()
            .map(|rows| tokens(rows, Part::Validation))
            .transpose()?;
        let virtual_tokens = virtual_tokens(&run.spec.tuning.method) as usize;
        [Some(&mut training), validation.as_mut()]
            .into_iter()
            .flatten()
            .for_each(|data| data.virtual_tokens = virtual_tokens);
        let units = units(&training, run.spec.training.packing.then_some(max_length));
        let validation_rows = rows.validation.as_ref().map_or(&[][..], |rows| &rows[..]);
        let mut warnings = warnings(&rows.training, validation_rows, &rows.classes);
        let all = rows.training.len() + validation_rows.len();
        let cut = training.truncated + validation.as_ref().map_or(0, |v| v.truncated);
        warnings.extend(truncated(cut, all, max_length));
        for data in [Some(&training), validation.as_ref()].into_iter().flatten() {
            check_vocabulary(&folder, data.ids.iter().flatten())?;
        }
        Ok(Self {
            folder,
            setup,
            task: rows.task,
            classes: rows.classes,
            training,
            units,
            validation,
            warnings,
        })
    }

    /// Optimizer steps of an epoch and of the whole run.
    pub(crate) fn steps(&self, run: &RunSpec) -> (u64, u64) {
        run.spec.training.steps(self.units.len() as u64)
    }

    /// Checks what depends on the number of rows and on settings that other runs with the same data need not share.
    ///
    /// # Errors
    /// A warmup longer than the run.
    pub(crate) fn check(&self, run: &RunSpec) -> Result<()> {
        check_warmup(&run.spec.training, self.units.len())
    }

    /// Loads the model for this data, with the weights that the run begins with.
    pub(crate) fn model(&self, run: &RunSpec, device: &Device, control: &Control) -> Result<Model> {
        let spec = &run.spec;
        let model = Model::load(
            &self.folder,
            &spec.tuning.method,
            task(self.task).head(self.classes.len()),
            device,
            spec.training.seed,
        )?;
        if let Some(start) = &run.start_from {
            begin_with(&model, &start.weights, control).map_err(|error| {
                Error::model(format!("cannot begin with '{}': {error}", start.model))
            })?;
        }
        Ok(model)
    }
}

/// Gives a new run the weights that an earlier job has made.
fn begin_with(model: &Model, weights: &StartWeights, control: &Control) -> Result<()> {
    match weights {
        StartWeights::Adapter(dir) => model.set(&read_adapter(dir)?.1),
        StartWeights::Checkpoint(dir) => checkpoint::begin_with(dir, &model.parameters, control),
    }
}
