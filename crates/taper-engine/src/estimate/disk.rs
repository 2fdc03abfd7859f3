use taper_core::{Disk, Produces, RunSpec, Training};

use super::F32;
use crate::{model_folder::ModelFolder, models::Model};

/// Bytes that names, shapes and counters take beside the numbers.
const AROUND: u64 = 64 << 10;

/// What checkpoints and artifacts take of a run with so many steps an epoch and in all, and about so many seconds.
pub(crate) fn disk(
    run: &RunSpec,
    folder: &ModelFolder,
    model: &Model,
    steps: (u64, u64),
    seconds: f64,
) -> Disk {
    let trained = model.parameters.count() * F32;
    // The weights and two moments of each.
    let checkpoint = 3 * trained + AROUND;
    let training = &run.spec.training;
    let published = match run.spec.tuning.method.descriptor().produces {
        Produces::Model => model.total_parameters() * F32,
        Produces::Adapter => trained,
    };
    Disk {
        checkpoint,
        checkpoints: checkpoint.saturating_mul(at_a_time(training, steps, seconds)),
        artifacts: published + folder.tokenizer_bytes() + AROUND,
    }
}

/// The most checkpoints that are there at a time: no more than are kept, and no more than are written, by the steps and by the clock.
fn at_a_time(training: &Training, (per_epoch, total): (u64, u64), seconds: f64) -> u64 {
    let best = u64::from(training.load_best_model_at_end);
    // An old one goes when the new one is there.
    let kept = training.save_total_limit + best + 1;
    let distance = training.save_steps.map_or(per_epoch, |it| it.steps(total));
    let by_clock = (seconds / (60.0 * training.save_minutes)) as u64;
    // The last step has one, wherever it falls; a step has no two.
    let written = total.div_ceil(distance).saturating_add(by_clock).min(total);
    kept.min(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_no_more_checkpoints_than_it_writes_and_keeps() {
        let training = Training {
            save_total_limit: 3,
            save_minutes: 10.0,
            ..Training::default()
        };
        let found = |steps, seconds| at_a_time(&training, steps, seconds);
        assert_eq!(found((4, 4), 1.0), 1);
        assert_eq!(found((4, 6), 1.0), 2);
        assert_eq!(found((1, 2), 6000.0), 2);
        assert_eq!(found((4, 4), 1200.0), 3);
        assert_eq!(found((4, 400), 1.0), 4);
        let best = Training {
            load_best_model_at_end: true,
            ..training.clone()
        };
        assert_eq!(at_a_time(&best, (4, 400), 1.0), 5);
    }
}
