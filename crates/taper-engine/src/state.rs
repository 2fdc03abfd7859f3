//! What a checkpoint holds: the trained weights, the optimizer's moments, how far the run is, what it has logged.
//! The order of the data and all randomness follow from seed and step, so there is nothing else.

use std::{fs, path::Path};

use crate::{
    Error, Result,
    checkpoint::{Weights, write_safetensors},
    error::Doing,
    export::Logged,
    fingerprint::Fingerprint,
    folder::write_whole,
    optim::AdamW,
    param::{Parameters, update},
};
use candle_core::Device;
use serde::{Deserialize, Serialize};

/// How far a run is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Optimizer steps made.
    pub(crate) step: u64,
    /// Real tokens trained on.
    pub(crate) tokens: u64,
    /// Time spent in steps.
    pub(crate) train_seconds: f64,
    /// Sums since the last log.
    pub(crate) window: Window,
    pub(crate) best: Option<Best>,
    /// Evaluations since the best one.
    pub(crate) evaluations_without_progress: u64,
    /// A pause has cut the evaluation of this step short.
    #[serde(default)]
    pub(crate) evaluation_due: bool,
}

/// Sums since the last log.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Window {
    /// Sum over the answers.
    pub(crate) loss: f64,
    /// Answers: rows with a class, or tokens that the loss covers.
    pub(crate) answers: u64,
    /// Tokens foretold rightly.
    pub(crate) correct: u64,
    pub(crate) rows: u64,
    pub(crate) tokens: u64,
    pub(crate) steps: u64,
    pub(crate) seconds: f64,
}

/// The best evaluation so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Best {
    pub(crate) step: u64,
    pub(crate) value: f64,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    fingerprint: Fingerprint,
    progress: Progress,
    history: Vec<Logged>,
    /// Steps of the checkpoints that exist, this one included.
    kept: Vec<u64>,
}

/// The parts of a run that a checkpoint keeps.
pub(crate) struct Snapshot<'a> {
    pub(crate) fingerprint: &'a Fingerprint,
    pub(crate) parameters: &'a Parameters,
    pub(crate) optimizer: &'a AdamW,
    pub(crate) progress: &'a Progress,
    pub(crate) history: &'a [Logged],
    pub(crate) kept: &'a [u64],
}

/// What a checkpoint gives back beside weights and moments.
pub(crate) struct Restored {
    pub(crate) progress: Progress,
    pub(crate) history: Vec<Logged>,
    pub(crate) kept: Vec<u64>,
}

/// Writes a checkpoint; it is there whole or not at all.
pub(crate) fn save(dir: &Path, snapshot: &Snapshot<'_>) -> Result<()> {
    let manifest = Manifest {
        fingerprint: snapshot.fingerprint.clone(),
        progress: snapshot.progress.clone(),
        history: snapshot.history.to_vec(),
        kept: snapshot.kept.to_vec(),
    };
    write_whole(dir, |dir| {
        write_safetensors(
            &dir.join("parameters.safetensors"),
            &snapshot.parameters.tensors(),
        )?;
        write_safetensors(
            &dir.join("optimizer.safetensors"),
            &snapshot.optimizer.tensors(snapshot.parameters),
        )?;
        fs::write(dir.join("state.json"), serde_json::to_vec(&manifest)?)
            .doing(|| "cannot write state.json".to_owned())
    })
}

/// Puts weights and moments of a checkpoint back.
///
/// # Errors
/// A checkpoint of other settings, data or base model, or one that is not whole.
pub(crate) fn restore(
    fingerprint: &Fingerprint,
    dir: &Path,
    parameters: &Parameters,
    optimizer: &mut AdamW,
) -> Result<Restored> {
    let refuse = |reason: String| Error::Checkpoint {
        dir: shown(dir),
        reason,
    };
    let text = fs::read(dir.join("state.json"))
        .map_err(|e| refuse(format!("state.json cannot be read: {e}")))?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|e| refuse(format!("state.json: {e}")))?;
    if let Some(what) = manifest.fingerprint.difference(fingerprint) {
        return Err(refuse(format!(
            "it was made with other {what}, so the run cannot go on from it"
        )));
    }
    restore_parameters(dir, parameters)?;
    let moments = Weights::open(&dir.join("optimizer.safetensors"))?;
    optimizer.restore(parameters, |name| moments.get(name, &Device::Cpu))?;
    let Manifest {
        progress,
        history,
        kept,
        ..
    } = manifest;
    Ok(Restored {
        progress,
        history,
        kept,
    })
}

/// Puts only the weights of a checkpoint back.
pub(crate) fn restore_parameters(dir: &Path, parameters: &Parameters) -> Result<()> {
    let weights = Weights::open(&dir.join("parameters.safetensors"))?;
    for parameter in &parameters.list {
        let values: Vec<f32> = weights
            .get(&parameter.name, &Device::Cpu)?
            .flatten_all()?
            .to_vec1()?;
        if values.len() != parameter.var.elem_count() {
            return Err(Error::Checkpoint {
                dir: shown(dir),
                reason: format!("{} has another size", parameter.name),
            });
        }
        update(&parameter.var, |target| target.copy_from_slice(&values))?;
    }
    Ok(())
}

fn shown(dir: &Path) -> String {
    dir.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
