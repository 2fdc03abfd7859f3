use taper_core::{Disk, Method, RunSpec};

use super::ledger::F32;
use crate::{checkpoint::ModelFolder, models::Model};

/// Bytes that names, shapes and counters take beside the numbers.
const AROUND: u64 = 64 << 10;

/// What checkpoints and artifacts of a run take.
pub(crate) fn disk(run: &RunSpec, folder: &ModelFolder, model: &Model) -> Disk {
    let trained = model.parameters.count() * F32;
    // The weights and two moments of each.
    let checkpoint = 3 * trained + AROUND;
    let training = &run.spec.training;
    let best = u64::from(training.load_best_model_at_end);
    let published = match &run.spec.tuning.method {
        Method::Full | Method::Layerwise(_) => model.total_parameters() * F32,
        Method::Lora(_) | Method::PromptTuning(_) => trained,
    };
    Disk {
        checkpoint,
        // An old one goes when the new one is there.
        checkpoints: checkpoint.saturating_mul(training.save_total_limit + best + 1),
        artifacts: published + folder.tokenizer_bytes() + AROUND,
    }
}
