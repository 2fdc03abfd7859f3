//! The plan of a run, and the bound on its memory that is known sooner.

use std::fs;

use taper_autodiff::Work;
use taper_core::{Control, Memory, Plan, RunSpec, TaskType};

use super::{OpenModel, Prepared, RowCache, Rows, max_length_in_force};
use crate::{
    Result,
    data::{Content, Encoded, Part, Row, Source, encode},
    estimate::{
        Speed, Surroundings, disk, evaluation_batch, evaluation_pass, heaviest, longest, memory,
        seconds, train_pass,
    },
    methods::tuner,
    models::Model,
    tasks::task,
};

/// Passes of which the time of a run is worked out.
const SAMPLES: usize = 6;
/// What an update of AdamW reads and writes for each trained value.
const UPDATE_ELEMENTS: f64 = 7.0;

/// What the run will do and take.
pub(crate) fn plan(opened: &OpenModel, data: &Prepared, run: &RunSpec) -> Result<Plan> {
    let folder = &opened.folder;
    let model = outline(opened, data.classes.len(), data.task, run)?;
    let (heavy, samples) = heaviest(&data.training, &data.units, &run.spec.training, SAMPLES);
    let validation = data.validation.as_ref();
    let speed = Speed::of_machine(run.threads);
    let seconds = seconds(whole_work(run, &model, data, &samples)?, speed);
    let tuner = tuner(&run.spec.tuning.method, folder.arch.layers())?;
    let mut warnings = data.warnings.clone();
    warnings.extend(tuner.reader_limits(data.task, &model.adapted));
    Ok(Plan {
        training_rows: data.training.len() as u64,
        validation_rows: validation.map_or(0, |v| v.len() as u64),
        training_tokens: data.training.tokens(),
        validation_tokens: validation.map_or(0, Encoded::tokens),
        label_tokens: data.training.label_tokens(),
        truncated_rows: data.training.truncated + validation.map_or(0, |v| v.truncated),
        total_steps: data.steps(run).1,
        trainable_parameters: model.parameters.count(),
        total_parameters: model.total_parameters(),
        classes: data.classes.names().to_vec(),
        heaviest_batch_tokens: data.training.tokens_of(&heavy),
        memory: memory(
            run,
            data.task,
            &model,
            folder.arch.layers(),
            (&data.training, &heavy),
            surroundings(opened, run),
        )?,
        disk: disk(run, folder, &model, data.steps(run), seconds),
        estimated_seconds: seconds,
        warnings,
    })
}

/// The memory of the run if its longest rows came together in one pass.
pub(crate) fn memory_bound(opened: &OpenModel, cache: &RowCache, run: &RunSpec) -> Result<Memory> {
    let rows = Rows::of(cache, run, &Control::new())?;
    let model = outline(opened, rows.classes.len(), rows.task, run)?;
    let data = heaviest_rows(opened, &rows, run)?;
    let all: Vec<usize> = (0..data.len()).collect();
    memory(
        run,
        rows.task,
        &model,
        opened.folder.arch.layers(),
        (&data, &all),
        surroundings(opened, run),
    )
}

fn outline(opened: &OpenModel, classes: usize, kind: TaskType, run: &RunSpec) -> Result<Model> {
    let method = &run.spec.tuning.method;
    Model::outline(
        &opened.folder,
        &opened.weights,
        method,
        task(kind).head(classes),
    )
}

/// A pass of the longest rows, or with plain text and packing of as many tokens as a pass may have.
fn heaviest_rows(opened: &OpenModel, rows: &Rows, run: &RunSpec) -> Result<Encoded> {
    let training = &run.spec.training;
    let max_length = max_length_in_force(&opened.folder, run);
    let count = usize::try_from(training.per_device_train_batch_size).unwrap_or(usize::MAX);
    if matches!(rows.training[0].content, Content::Text(_)) {
        let blocks = count.min(most_tokens(rows, run) / max_length.tokens).max(1);
        return Ok(Encoded::blocks(blocks, max_length.tokens));
    }
    let chosen = longest(&rows.training, count);
    let source = Source {
        rows: &chosen,
        part: Part::Training,
    };
    let mut data = encode(
        &opened.setup,
        source,
        &rows.classes,
        max_length,
        &Control::new(),
    )?;
    data.virtual_tokens = run.spec.tuning.method.virtual_tokens() as usize;
    if training.packing {
        let wanted = chosen
            .len()
            .saturating_mul(max_length.tokens + data.virtual_tokens);
        let all = most_tokens(rows, run).saturating_add(rows.training.len() * data.virtual_tokens);
        data.fill(wanted.min(all));
    }
    Ok(data)
}

/// More tokens than all rows together have: a token stands for at least a byte, and what a template adds is in the syntax of the file. A
/// Parquet file may be smaller than its texts.
fn most_tokens(rows: &Rows, run: &RunSpec) -> usize {
    let file = fs::metadata(&run.training_file.path).map_or(usize::MAX, |file| {
        usize::try_from(file.len()).unwrap_or(usize::MAX)
    });
    file.max(rows.training.iter().map(Row::bytes).sum())
}

/// The arithmetic of all steps and evaluations.
fn whole_work(
    run: &RunSpec,
    model: &Model,
    data: &Prepared,
    samples: &[Vec<usize>],
) -> Result<Work> {
    let layers = data.folder.arch.layers();
    let (mut sampled, mut tokens) = (Work::default(), 0);
    for rows in samples {
        sampled =
            sampled.plus(train_pass(run, data.task, model, layers, (&data.training, rows))?.1);
        tokens += data.training.tokens_of(rows);
    }
    let (per_epoch, total) = data.steps(run);
    let epochs = total as f64 / per_epoch as f64;
    let trained = data.training.tokens() as f64 * epochs;
    let update = Work {
        elements: UPDATE_ELEMENTS * model.parameters.count() as f64,
        ..Work::default()
    };
    let steps = sampled
        .times(trained / tokens.max(1) as f64)
        .plus(update.times(total as f64));
    let (Some(validation), Some(rows)) = (&data.validation, samples.first()) else {
        return Ok(steps);
    };
    let every = run.spec.training.eval_steps;
    let every = every.map_or(per_epoch, |interval| interval.steps(total));
    // One before the first step, and the last one anew where it is of another step.
    let evaluations = 1 + total.div_ceil(every);
    let batch = evaluation_batch(&data.training, rows);
    let (_, once) = evaluation_pass(data.task, model, &batch)?;
    let share = evaluations as f64 * validation.tokens() as f64 / batch.tokens() as f64;
    Ok(steps.plus(once.times(share)))
}

fn surroundings(opened: &OpenModel, run: &RunSpec) -> Surroundings {
    let bytes = |path| fs::metadata(path).map_or(0, |file| file.len());
    let validation = run.validation_file.as_ref();
    Surroundings {
        data: bytes(&run.training_file.path) + validation.map_or(0, |file| bytes(&file.path)),
        tokenizer: opened.folder.tokenizer_bytes(),
    }
}
