//! Whether a job fits into memory and on the disk: at all, which is known before it is queued, and into memory beside the jobs that run,
//! which is looked at when it is claimed.

use std::sync::{Arc, Mutex, PoisonError};

use taper_core::{
    Bytes, Control, FieldError, Lora, Method, Plan, RunSpec, SpecError, TrainError, Trainer,
    Training, code,
};
use taper_store::{Job, StoreError};

use crate::runner::Shared;

/// Rows are not cut shorter than this when a way is looked for that makes a job fit.
const SHORTEST: u64 = 64;
/// The length in force where none is given.
const USUAL_LENGTH: u64 = 512;

/// Refuses a job that can never fit.
///
/// # Errors
/// What it needs by part, what there is, and what would make it fit.
pub(crate) fn admit(
    trainer: &dyn Trainer,
    limit: Option<u64>,
    run: &RunSpec,
    control: &Control,
) -> Result<(), SpecError> {
    let Some(limit) = limit else { return Ok(()) };
    if trainer.memory_bound(run)?.total() <= limit {
        return Ok(());
    }
    // The bound takes the longest rows together; what the run really draws may be less.
    let plan = trainer.check(run, control).map_err(as_finding)?;
    check(trainer, limit, run, &plan)
}

/// Refuses a plan that can never be carried out.
///
/// # Errors
/// What it needs by part, what there is, and what would make it fit.
pub(crate) fn check(
    trainer: &dyn Trainer,
    limit: u64,
    run: &RunSpec,
    plan: &Plan,
) -> Result<(), SpecError> {
    if plan.memory.total() <= limit {
        return Ok(());
    }
    let ways = ways(trainer, limit, run);
    let message = format!(
        "the job needs {} at its peak, but jobs may take {} on this server (memory-limit-mib); {}",
        plan.memory,
        Bytes(limit),
        ways.join("; ")
    );
    let param = "training.per_device_train_batch_size";
    Err(FieldError::new(param, code::INSUFFICIENT_MEMORY, message).into())
}

/// Refuses a plan whose own files are more than the data directory may ever hold: it would wait for space that it takes itself.
///
/// # Errors
/// What it needs, what there is, and what would make it fit.
pub(crate) fn check_disk(most: Option<u64>, run: &RunSpec, plan: &Plan) -> Result<(), SpecError> {
    let disk = plan.disk;
    let needs = disk.checkpoints.saturating_add(disk.artifacts);
    let Some(most) = most.filter(|most| needs > *most) else {
        return Ok(());
    };
    let fewer = (needs - most).div_ceil(disk.checkpoint.max(1));
    let way = match run.spec.training.save_total_limit.checked_sub(fewer) {
        Some(limit @ 1..) => format!("it fits with training.save_total_limit {limit}"),
        _ => "train fewer parameters, for instance with tuning.type lora, or raise max-data-mib"
            .to_owned(),
    };
    let message = format!(
        "the job's checkpoints take {} and its result {}, but the data directory may hold {} (max-data-mib); {way}",
        Bytes(disk.checkpoints),
        Bytes(disk.artifacts),
        Bytes(most)
    );
    let param = "training.save_total_limit";
    Err(FieldError::new(param, code::INSUFFICIENT_DISK, message).into())
}

pub(crate) fn as_finding(error: TrainError) -> SpecError {
    match error {
        TrainError::Failed {
            code,
            message,
            param,
            ..
        } => FieldError::new(param.unwrap_or_default(), &code, message).into(),
        TrainError::Stopped(_) | TrainError::Refused(_) => {
            FieldError::invalid("training_file", error.to_string()).into()
        }
    }
}

/// Three changes, each with what the job would need with it.
fn ways(trainer: &dyn Trainer, limit: u64, run: &RunSpec) -> Vec<String> {
    let search = |changes: &[Cut]| lightest(trainer, limit, run, changes);
    let third = if run.spec.tuning.method.is_adapter() {
        search(&[Cut::Batch, Cut::Length])
    } else {
        with_lora(trainer, run)
    };
    let found = [search(&[Cut::Batch]), search(&[Cut::Length]), third];
    let none_fits = found.iter().flatten().all(|way| way.needs > limit);
    let mut ways: Vec<String> = found.iter().flatten().map(|way| way.told(limit)).collect();
    if none_fits {
        ways.push("choose a smaller model, or raise memory-limit-mib".to_owned());
    }
    ways
}

/// A change of a job, and what the job needs with it.
struct Way {
    change: String,
    needs: u64,
}

impl Way {
    fn told(&self, limit: u64) -> String {
        let (needs, change) = (Bytes(self.needs), &self.change);
        let still = if self.needs > limit {
            ", still too much"
        } else {
            ""
        };
        format!("it needs {needs} with {change}{still}")
    }
}

/// A setting that can be made smaller.
#[derive(Clone, Copy)]
enum Cut {
    /// Fewer rows a pass, and as many more passes a step: the optimisation stays as it is.
    Batch,
    /// Shorter rows.
    Length,
}

impl Cut {
    /// Halves the setting; tells whether there was anything left to halve.
    fn apply(self, training: &mut Training) -> bool {
        match self {
            Self::Batch => {
                let rows = training.per_device_train_batch_size;
                training.per_device_train_batch_size = rows.div_ceil(2);
                training.gradient_accumulation_steps *= if rows > 1 { 2 } else { 1 };
                rows > 1
            }
            Self::Length => {
                let length = training.max_length.unwrap_or(USUAL_LENGTH);
                training.max_length = Some((length / 2).max(SHORTEST));
                length > SHORTEST
            }
        }
    }

    fn told(self, training: &Training) -> String {
        match self {
            Self::Batch => format!(
                "training.per_device_train_batch_size {} and gradient_accumulation_steps {}",
                training.per_device_train_batch_size, training.gradient_accumulation_steps
            ),
            Self::Length => format!(
                "training.max_length {}",
                training.max_length.unwrap_or(USUAL_LENGTH)
            ),
        }
    }
}

/// Makes settings smaller, all at once, until the job fits or nothing is left to make smaller; `None` where nothing was.
fn lightest(trainer: &dyn Trainer, limit: u64, run: &RunSpec, cuts: &[Cut]) -> Option<Way> {
    let (mut run, mut way) = (run.clone(), None);
    loop {
        let cut = cuts.iter().map(|cut| cut.apply(&mut run.spec.training));
        if cut.filter(|cut| *cut).count() == 0 {
            return way;
        }
        let Some(needs) = needs(trainer, &run) else {
            // Rows this short have nothing left to learn.
            return way;
        };
        let told: Vec<_> = cuts
            .iter()
            .map(|cut| cut.told(&run.spec.training))
            .collect();
        way = Some(Way {
            change: told.join(" and "),
            needs,
        });
        if needs <= limit {
            return way;
        }
    }
}

fn with_lora(trainer: &dyn Trainer, run: &RunSpec) -> Option<Way> {
    let mut run = run.clone();
    run.spec.tuning.method = Method::Lora(Lora::default());
    // Its targets depend on the model.
    run.spec = trainer.inspect(&run).ok()?;
    Some(Way {
        change: "tuning.type lora".to_owned(),
        needs: needs(trainer, &run)?,
    })
}

fn needs(trainer: &dyn Trainer, run: &RunSpec) -> Option<u64> {
    trainer.memory_bound(run).ok().map(|memory| memory.total())
}

/// The memory that running jobs hold.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    held: Arc<Mutex<u64>>,
    /// One claim at a time, so that two of them do not both count on the same memory.
    turn: tokio::sync::Mutex<()>,
}

/// A running job's memory, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: u64,
    of: Arc<Mutex<u64>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        *self.of.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes;
    }
}

impl Ledger {
    fn held(&self) -> u64 {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, bytes: u64) -> Held {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) += bytes;
        Held {
            bytes,
            of: self.held.clone(),
        }
    }
}

impl Shared {
    /// Claims the next job of the queue, unless the running ones leave it too little memory: then it waits, and so do those behind
    /// it, or a large job would never have its turn.
    pub(crate) async fn claim(&self) -> Result<Option<(Job, Held)>, StoreError> {
        let _turn = self.memory.turn.lock().await;
        let free = match (self.config.memory_limit, self.memory.held()) {
            // What runs alone was admitted.
            (None, _) | (_, 0) => u64::MAX,
            (Some(limit), held) => limit.saturating_sub(held),
        };
        let Some(job) = self.store.claim_within(free).await? else {
            return Ok(None);
        };
        let bytes = job.plan.as_ref().map_or(0, |plan| plan.memory.total());
        let held = self.memory.hold(bytes);
        Ok(Some((job, held)))
    }
}
