use std::sync::Arc;

use taper_autodiff::{Counting, Peak, Work};
use taper_core::{Memory, RunSpec, TaskType};

use super::F32;
use crate::{
    Result,
    data::{Batch, Encoded},
    evaluation::BATCH_TOKENS,
    methods::Rates,
    models::{DropoutRng, Model, Pass},
    tape::Tape,
    tasks::task,
};

/// The program itself, its threads and its allocator.
const PROGRAM: u64 = 68 << 20;
/// What the allocator takes for each byte of buffers that come and go.
const ALLOCATOR: f64 = 1.15;
/// How much of the activations' memory the gradients have after them.
const REUSED: f64 = 0.75;
/// What a tokenizer takes for each byte of its file.
const TOKENIZER: f64 = 8.0;
/// What rows and their tokens take for each byte of their files.
const DATA: f64 = 2.0;

/// What lies in memory beside the model, in bytes of the files that it comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings {
    pub(crate) data: u64,
    pub(crate) tokenizer: u64,
}

impl Surroundings {
    fn bytes(self) -> u64 {
        PROGRAM + grown(self.data, DATA) + grown(self.tokenizer, TOKENIZER)
    }
}

fn grown(bytes: u64, factor: f64) -> u64 {
    (bytes as f64 * factor) as u64
}

/// Memory at the run's peak, which is that of its heaviest pass unless loading, evaluating, saving or exporting takes more.
pub(crate) fn memory(
    run: &RunSpec,
    kind: TaskType,
    model: &Model,
    layers: usize,
    heaviest: (&Encoded, &[usize]),
    around: Surroundings,
) -> Result<Memory> {
    let (data, rows) = heaviest;
    let (pass, _) = train_pass(run, kind, model, layers, (data, rows))?;
    let trained = model.parameters.count() * F32;
    let weights = model.weight_bytes();
    let activations = grown(pass.activations, ALLOCATOR);
    let (added, reused) = match run.spec.training.gradient_accumulation_steps {
        // Gradients come when the activations go, and have most of their memory.
        1 => (0, grown(activations.min(trained), REUSED)),
        // Those of the first micro-batch are there when the activations of the second come, and a later gradient of a weight is
        // whole before it is added.
        _ => (model.parameters.largest() * F32, 0),
    };
    let memory = Memory {
        weights,
        gradients: trained + added,
        optimizer: 2 * trained,
        activations: activations - reused,
        logits: pass.scratch,
        overhead: 0,
    };
    let state = weights + 2 * trained;
    let (evaluation, _) = evaluation_pass(kind, model, &evaluation_batch(data, rows))?;
    let others = [
        state + evaluation.total(),
        // One tensor is written at a time.
        state + model.parameters.largest() * F32,
    ];
    let more = others.into_iter().max().unwrap_or(0);
    Ok(Memory {
        overhead: around.bytes() + more.saturating_sub(memory.total()),
        ..memory
    })
}

/// One forward and backward pass at the end of the run, when most is trained.
pub(crate) fn train_pass(
    run: &RunSpec,
    kind: TaskType,
    model: &Model,
    layers: usize,
    (data, rows): (&Encoded, &[usize]),
) -> Result<(Peak, Work)> {
    let rates = Rates::new(&run.spec.tuning.method, &model.parameters, layers)?;
    let counting = Arc::new(Counting::new()?);
    let tape = Tape::recording(counting.clone(), Some(rates.active(u64::MAX)));
    let rng = Some(DropoutRng { seed: 0, pass: 0 });
    let pass = Pass { tape: &tape, rng };
    let loss = task(kind).loss(model, &pass, &Batch::of(data, rows), 1)?;
    tape.backward(&loss.value, &mut model.parameters.gradients())?;
    Ok((counting.peak(), counting.work()))
}

/// A batch of an evaluation, made of these rows.
pub(crate) fn evaluation_batch(data: &Encoded, rows: &[usize]) -> Batch {
    let times = BATCH_TOKENS.div_ceil(data.places_of(rows).max(1));
    let rows: Vec<usize> = rows
        .iter()
        .copied()
        .cycle()
        .take(rows.len() * times)
        .collect();
    Batch::of(data, &rows)
}

/// One batch of an evaluation.
pub(crate) fn evaluation_pass(
    kind: TaskType,
    model: &Model,
    batch: &Batch,
) -> Result<(Peak, Work)> {
    let counting = Arc::new(Counting::new()?);
    let tape = Tape::idle(counting.clone());
    let pass = Pass {
        tape: &tape,
        rng: None,
    };
    task(kind).loss(model, &pass, batch, 1)?;
    Ok((counting.peak(), counting.work()))
}
