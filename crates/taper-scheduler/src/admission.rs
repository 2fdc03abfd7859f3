//! Whether a job fits into memory and on the disk at all, which is known before it is queued.

use std::fs;

use taper_core::{
    Bytes, Control, FieldError, Lora, Method, Plan, RunSpec, SpecError, TrainError, Trainer,
    Training, code,
};

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

/// Refuses a plan whose own files, uploads included, are more than the data directory may ever hold: it would wait for space that it takes itself.
///
/// # Errors
/// What it needs, what there is, and what would make it fit.
pub(crate) fn check_disk(most: Option<u64>, run: &RunSpec, plan: &Plan) -> Result<(), SpecError> {
    let Some(most) = most else { return Ok(()) };
    let (disk, uploads) = (plan.disk, upload_bytes(run));
    let parts = [disk.checkpoints, disk.artifacts, uploads];
    let needs = parts.into_iter().fold(0, u64::saturating_add);
    if needs <= most {
        return Ok(());
    }
    let checkpoint = disk.checkpoint.max(1);
    // Besides the newest: the best, and the one being written.
    let extra = u64::from(run.spec.training.load_best_model_at_end) + 1;
    let fewer = extra.saturating_add((needs - most).div_ceil(checkpoint));
    let way = match (disk.checkpoints / checkpoint).checked_sub(fewer) {
        Some(limit @ 1..) => format!("it fits with training.save_total_limit {limit}"),
        _ => "train fewer parameters, for instance with tuning.type lora, or raise max-data-mib"
            .to_owned(),
    };
    let message = format!(
        "the job's checkpoints take {}, its result {} and its files {}, but the data directory may hold {} (max-data-mib); {way}",
        Bytes(disk.checkpoints),
        Bytes(disk.artifacts),
        Bytes(uploads),
        Bytes(most)
    );
    let param = "training.save_total_limit";
    Err(FieldError::new(param, code::INSUFFICIENT_DISK, message).into())
}

/// Bytes of the files that a run reads. It waits for the disk.
fn upload_bytes(run: &RunSpec) -> u64 {
    let training = &run.training_file;
    let validation = run.validation_file.iter();
    let others = validation.filter(|file| file.id != training.id);
    let files = std::iter::once(training).chain(others);
    files
        .map(|file| fs::metadata(&file.path).map_or(0, |found| found.len()))
        .sum()
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
