//! What a run needs before its first step: rows, classes, tokens, the plan.

mod model_cache;
mod plan;

pub(crate) use model_cache::{Models, OpenModel};
pub(crate) use plan::{memory_bound, plan};

use std::sync::Arc;

use candle_core::Device;
use taper_core::{
    Control, DataFile, Defaults, FieldError, Full, JobSpec, Method, RunSpec, StartWeights,
    TaskType, Training, Warning,
};

use crate::{
    Error, Result,
    adapter::read_adapter,
    cache::Cache,
    checkpoint::{self, DataDigest},
    data::{
        Classes, Content, Encoded, Format, MaxLength, Part, Row, Source, TokenizerSetup, encode,
        end_tokens, hold_out, pad_token, read_rows, truncated, units, warnings,
    },
    families::Arch,
    methods::tuner,
    model_folder::ModelFolder,
    models::Model,
    tasks::{task, task_of},
};

/// Tokens of a block of plain text where the job does not say, and of rows that are packed.
const USUAL_BLOCK: u64 = 512;
/// The least that `max_length` may be.
const SHORTEST: u64 = 2;

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
    /// By which a checkpoint knows the training rows again.
    pub(crate) digest: DataDigest,
    /// The tokens at which the tuned model has to stop; none where it writes nothing.
    pub(crate) ends: Vec<u32>,
    /// What is odd about the rows.
    pub(crate) warnings: Vec<Warning>,
}

/// Rows by the file's hash, so that a file that many jobs name is parsed once.
pub(crate) type RowCache = Cache<Vec<Row>>;

/// What tells the rows of one file from those of another: the ending of its name decides how the bytes are read, the job which columns.
pub(crate) fn rows_key(file: &DataFile, spec: &JobSpec) -> String {
    let format = Format::of(&file.filename);
    format!("{} {format:?} {:?}", file.sha256, spec.columns)
}

fn rows_of(
    cache: &RowCache,
    file: &DataFile,
    spec: &JobSpec,
    part: Part,
    control: &Control,
) -> Result<Arc<Vec<Row>>> {
    cache.get_or_make(&rows_key(file, spec), control, || {
        read_rows(file, &spec.columns, part)
    })
}

/// What tells one run's data, as [`Prepared`] has it, from another's.
pub(crate) fn key(opened: &OpenModel, run: &RunSpec) -> String {
    let (spec, training) = (&run.spec, &run.spec.training);
    let held_out = training.eval_split.map(|share| (share, training.seed));
    let virtual_tokens = spec.tuning.method.virtual_tokens();
    format!(
        "{} {} {:?} {held_out:?} {:?} {} {virtual_tokens}",
        opened.stamp,
        rows_key(&run.training_file, spec),
        run.validation_file
            .as_ref()
            .map(|file| rows_key(file, spec)),
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
        let training = rows_of(
            cache,
            &run.training_file,
            &run.spec,
            Part::Training,
            control,
        )?;
        let kind = training.first().map_or(TaskType::SeqCls, task_of);
        let classes = task(kind).classes(&training)?;
        if let Some(file) = &run.validation_file {
            let validation = rows_of(cache, file, &run.spec, Part::Validation, control)?;
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
    check_method(folder, &run.spec.tuning.method)?;
    let rows = Rows::of(cache, run, &control)?;
    if !task(rows.task).suits(folder.arch.family()) {
        let message = format!(
            "the model is an encoder and cannot be tuned for {}; take a decoder, or rows of text and label",
            rows.task.as_str()
        );
        return Err(FieldError::invalid("tuning.task_type", message).into());
    }
    check_parameters(&opened, &rows, &run.spec.tuning.method)?;
    setup.check(&rows.training, Part::Training)?;
    // Plain text is cut into blocks later, so its rows say nothing about the steps.
    if !matches!(rows.training[0].content, Content::Text(_)) {
        check_warmup(&run.spec.training, rows.training.len())?;
    }
    let default_max_length = match run.spec.training.max_length {
        Some(length) => length,
        None => usual_length(&opened, &rows, run),
    };
    let defaults = Defaults {
        task_type: rows.task,
        default_max_length,
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
/// Settings of the method that do not go with the model's configuration.
fn check_method(folder: &ModelFolder, method: &Method) -> Result<()> {
    tuner(method, folder.arch.layers())?.check(&folder.arch)
}

/// # Errors
/// Settings of the method that do not go with the model's parameters.
fn check_parameters(opened: &OpenModel, rows: &Rows, method: &Method) -> Result<()> {
    let folder = &opened.folder;
    let all = || {
        let full = Method::Full(Full {});
        let head = task(rows.task).head(rows.classes.len());
        let model = Model::outline(folder, &opened.weights, &full, head)?;
        Ok(model.parameters.list)
    };
    tuner(method, folder.arch.layers())?.check_parameters(&all)
}

/// The longest row that the model takes behind the virtual tokens, if the method has any.
fn max_length(folder: &ModelFolder, method: &Method) -> u64 {
    (folder.arch.max_length() as u64).saturating_sub(method.virtual_tokens())
}

/// Tokens to which rows are cut.
pub(crate) fn max_length_in_force(folder: &ModelFolder, run: &RunSpec) -> MaxLength {
    let limit = max_length(folder, &run.spec.tuning.method);
    let tokens = run
        .spec
        .training
        .max_length
        .unwrap_or(USUAL_BLOCK)
        .min(limit);
    MaxLength {
        tokens: tokens as usize,
        raisable: tokens < limit,
    }
}

/// The `max_length` of a job that does not say one: its longest row, as far as the model takes it. Plain text has no rows, and packing
/// wants room for several.
fn usual_length(opened: &OpenModel, rows: &Rows, run: &RunSpec) -> u64 {
    let limit = max_length(&opened.folder, &run.spec.tuning.method);
    let block = USUAL_BLOCK.min(limit);
    if matches!(rows.training[0].content, Content::Text(_)) {
        return block;
    }
    let training = &run.spec.training;
    let held_out = training.eval_split.map(|share| (share, training.seed));
    let of = |part: Part, file: &DataFile, rows: &[Row]| {
        let rows_of = format!("{} {part:?} {held_out:?}", rows_key(file, &run.spec));
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        opened.longest_row(rows_of, rows, limit) as u64
    };
    // Without a file of their own the validation rows are held out of the training file's.
    let validation_file = run.validation_file.as_ref().unwrap_or(&run.training_file);
    let validation = rows.validation.as_ref();
    let longest_of_validation =
        validation.map_or(0, |rows| of(Part::Validation, validation_file, rows));
    let longest_of_all =
        of(Part::Training, &run.training_file, &rows.training).max(longest_of_validation);
    let longest = longest_of_all.max(SHORTEST.min(limit));
    if run.spec.training.packing {
        longest.max(block)
    } else {
        longest
    }
}

/// # Errors
/// A token that the model has no embedding for, with the line of its row.
fn check_vocabulary(opened: &OpenModel, data: &Encoded, part: Part) -> Result<()> {
    let size = opened.folder.arch.vocab_size();
    let unknown = |ids: &Vec<u32>| ids.iter().find(|id| **id as usize >= size).copied();
    let mut rows = data.ids.iter().zip(&data.lines);
    let found = rows.find_map(|(ids, line)| Some((unknown(ids)?, line)));
    let Some((id, line)) = found else {
        return Ok(());
    };
    let token = opened.setup.tokenizer.id_to_token(id).unwrap_or_default();
    let file = match part {
        Part::Training => "training",
        Part::Validation => "validation",
    };
    Err(Error::model(format!(
        "the tokenizer writes line {line} of the {file} file with the token '{token}' (id {id}), but the embeddings have only {size} rows; take the model's own tokenizer, resize its embeddings, or remove the token from the data"
    )))
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
        let virtual_tokens = run.spec.tuning.method.virtual_tokens() as usize;
        [Some(&mut training), validation.as_mut()]
            .into_iter()
            .flatten()
            .for_each(|data| data.virtual_tokens = virtual_tokens);
        let packed = run.spec.training.packing.then_some(max_length.tokens);
        let units = units(&training, packed);
        let validation_rows = rows.validation.as_ref().map_or(&[][..], |rows| &rows[..]);
        let mut warnings = warnings(&rows.training, validation_rows, &rows.classes);
        let all = rows.training.len() + validation_rows.len();
        let cut = training.truncated + validation.as_ref().map_or(0, |v| v.truncated);
        warnings.extend(truncated(cut, all, max_length));
        check_vocabulary(opened, &training, Part::Training)?;
        if let Some(validation) = &validation {
            check_vocabulary(opened, validation, Part::Validation)?;
        }
        Ok(Self {
            digest: DataDigest {
                sha256: training.digest(),
                was_read_otherwise: rows
                    .training
                    .iter()
                    .any(|row| row.content.was_read_otherwise()),
            },
            ends: end_tokens(&setup, &rows.training, &training),
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

    /// The token that fills batches of texts up, where the tuned model has to know it: a decoder that classifies looks for the last token
    /// that is another.
    pub(crate) fn pad(&self) -> Option<u32> {
        let classifies = !task(self.task).writes() && matches!(self.folder.arch, Arch::Decoder(_));
        let texts = [Some(&self.training), self.validation.as_ref()];
        let texts: Vec<_> = texts.into_iter().flatten().collect();
        let (config, size) = (&self.folder.config, self.folder.arch.vocab_size());
        classifies
            .then(|| pad_token(&self.setup, config, size, &texts))
            .flatten()
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
