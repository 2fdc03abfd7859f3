//! What a checkpoint holds: the trained weights, the optimizer's moments, how far the run is, what it has logged.
//! The order of the data and all randomness follow from seed and step, so there is nothing else.

mod fingerprint;
mod retention;

pub(crate) use fingerprint::Fingerprint;
pub(crate) use retention::{CheckpointRetention, Kept};

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::Path,
};

use candle_core::Device;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use taper_core::{CHECKPOINT_MANIFEST, CheckpointRefused, Control, RunSpec};

use crate::{
    Error, Result,
    atomic_folder::{Filled, fill},
    error::Doing,
    history::Logged,
    model_folder::{Weights, write_safetensors},
    optim::AdamW,
    parameters::Parameters,
};

const PARAMETERS: &str = "parameters.safetensors";
const MOMENTS: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
const FILES: [&str; 3] = [PARAMETERS, MOMENTS, STATE];
/// Bytes that are hashed between two signs of life.
const CHUNK: u64 = 4 << 20;

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
    /// Names of the parameters that have shown no gradient yet. Builds before this field was there left it out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) unproven: Vec<String>,
}

/// Sums since the last log.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Window {
    /// Sum over the targets.
    pub(crate) loss: f64,
    /// Rows with a class, or tokens that the loss covers.
    #[serde(rename = "answers")]
    pub(crate) targets: u64,
    /// Those predicted rightly, where the task counts them.
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

/// What a run trains on, as its model sees it.
pub(crate) struct DataDigest {
    /// Of tokens and targets, hex.
    pub(crate) sha256: String,
    /// Whether builds that wrote no such sum made other tokens of these rows.
    pub(crate) was_read_otherwise: bool,
}

const OTHER_TOKENS: &str = "it was trained on other tokens than these rows give now, since an older version of taper read them otherwise; create the job anew";

#[derive(Serialize, Deserialize)]
struct State {
    fingerprint: Fingerprint,
    /// The sum of [`DataDigest`]. Builds before it was there left it out.
    #[serde(default)]
    tokens: Option<String>,
    progress: Progress,
    history: Vec<Logged>,
    /// The checkpoints that exist, this one included.
    #[serde(flatten)]
    kept: Kept,
}

/// The parts of a run that a checkpoint keeps.
pub(crate) struct Snapshot<'a> {
    pub(crate) fingerprint: &'a Fingerprint,
    pub(crate) data: &'a DataDigest,
    pub(crate) parameters: &'a Parameters,
    pub(crate) optimizer: &'a AdamW,
    pub(crate) progress: &'a Progress,
    pub(crate) history: &'a [Logged],
    pub(crate) kept: &'a Kept,
}

/// What a checkpoint gives back beside weights and moments.
pub(crate) struct Restored {
    pub(crate) progress: Progress,
    pub(crate) history: Vec<Logged>,
    pub(crate) kept: Kept,
}

/// Writes a checkpoint of this moment, as far as the memory of the file system; [`complete`] brings it to the disk.
pub(crate) fn write(dir: &Path, attempt: u32, snapshot: &Snapshot<'_>) -> Result<Filled> {
    let state = State {
        fingerprint: snapshot.fingerprint.clone(),
        tokens: Some(snapshot.data.sha256.clone()),
        progress: snapshot.progress.clone(),
        history: snapshot.history.to_vec(),
        kept: snapshot.kept.clone(),
    };
    fill(dir, attempt, |dir| {
        write_safetensors(&dir.join(PARAMETERS), &snapshot.parameters.tensors())?;
        write_safetensors(
            &dir.join(MOMENTS),
            &snapshot.optimizer.tensors(snapshot.parameters),
        )?;
        fs::write(dir.join(STATE), serde_json::to_vec(&state)?)
            .doing(|| format!("cannot write {STATE}"))
    })
}

/// Brings a checkpoint to the disk with its sums; it is there whole or not at all.
///
/// # Errors
/// A request to stop at once: who has abandoned the run meanwhile may have begun another.
pub(crate) fn complete(written: Filled, control: &Control) -> Result<()> {
    let finish = |dir: &Path| {
        let mut sums = BTreeMap::new();
        for name in FILES {
            let sum = sha256(&dir.join(name), control);
            sums.insert(name, sum.doing(|| format!("cannot read {name}"))?);
        }
        fs::write(dir.join(CHECKPOINT_MANIFEST), serde_json::to_vec(&sums)?)
            .doing(|| format!("cannot write {CHECKPOINT_MANIFEST}"))
    };
    written.complete(finish, || Ok(control.check_cancelled()?))
}

fn sha256(path: &Path, control: &Control) -> io::Result<String> {
    let (mut file, mut hash) = (fs::File::open(path)?, Sha256::new());
    while io::copy(&mut file.by_ref().take(CHUNK), &mut hash)? > 0 {
        control.heartbeat();
    }
    Ok(format!("{:x}", hash.finalize()))
}

/// Looks whether a checkpoint is whole and belongs to this run.
///
/// # Errors
/// The file that is damaged or missing, or what it does not fit.
pub(crate) fn verify(
    fingerprint: &Fingerprint,
    dir: &Path,
    control: &Control,
) -> Result<(), CheckpointRefused> {
    read_verified(fingerprint, dir, control).map(drop)
}

fn read_json<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<T, CheckpointRefused> {
    let content = fs::read(dir.join(name)).map_err(|error| unreadable(name, &error))?;
    serde_json::from_slice(&content)
        .map_err(|error| CheckpointRefused::Damaged(format!("{name} cannot be read: {error}")))
}

/// What it means that a file cannot be read: nothing will bring it back, or the machine lacks something for now.
fn unreadable(name: &str, error: &io::Error) -> CheckpointRefused {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound, UnexpectedEof};
    let is_lost = matches!(
        error.kind(),
        NotFound | UnexpectedEof | IsADirectory | NotADirectory
    );
    if is_lost || error.raw_os_error() == Some(libc::EIO) {
        CheckpointRefused::Damaged(format!("{name} cannot be read: {error}"))
    } else {
        CheckpointRefused::Unusable(format!("{name} cannot be read now: {error}"))
    }
}

fn check_sums(dir: &Path, control: &Control) -> Result<(), CheckpointRefused> {
    let sums: BTreeMap<String, String> = read_json(dir, CHECKPOINT_MANIFEST)?;
    for name in FILES {
        let sum = sha256(&dir.join(name), control).map_err(|error| unreadable(name, &error))?;
        if sums.get(name) != Some(&sum) {
            let reason = format!("{name} is not as it was written: its sum is another");
            return Err(CheckpointRefused::Damaged(reason));
        }
    }
    Ok(())
}

fn read_verified(
    fingerprint: &Fingerprint,
    dir: &Path,
    control: &Control,
) -> Result<State, CheckpointRefused> {
    check_sums(dir, control)?;
    let state: State = read_json(dir, STATE)?;
    if dir.file_name() != Some(RunSpec::checkpoint_name(state.progress.step).as_ref()) {
        let reason = format!("it is that of step {}", state.progress.step);
        return Err(CheckpointRefused::Damaged(reason));
    }
    if let Some(what) = state.fingerprint.difference(fingerprint) {
        let reason = format!("it was made with other {what}, so the run cannot go on from it");
        return Err(CheckpointRefused::Unusable(reason));
    }
    Ok(state)
}

/// Puts weights and moments of a checkpoint back.
///
/// # Errors
/// A checkpoint of other settings or data, or one that is not whole.
pub(crate) fn restore(
    fingerprint: &Fingerprint,
    data: &DataDigest,
    dir: &Path,
    parameters: &Parameters,
    optimizer: &mut AdamW,
    control: &Control,
) -> Result<Restored> {
    let state =
        read_verified(fingerprint, dir, control).map_err(|refused| unusable(dir, refused))?;
    let same_tokens = match &state.tokens {
        Some(tokens) => *tokens == data.sha256,
        None => !data.was_read_otherwise,
    };
    if !same_tokens {
        let refused = CheckpointRefused::Unusable(OTHER_TOKENS.to_owned());
        return Err(unusable(dir, refused));
    }
    restore_parameters(dir, parameters)?;
    let moments = Weights::open(&dir.join(MOMENTS))?;
    optimizer.restore(parameters, |name| moments.get(name, &Device::Cpu))?;
    let State {
        progress,
        history,
        kept,
        ..
    } = state;
    Ok(Restored {
        progress,
        history,
        kept,
    })
}

/// Puts only the weights of a checkpoint of this run back.
///
/// # Errors
/// A checkpoint that is not whole.
pub(crate) fn restore_best(
    fingerprint: &Fingerprint,
    dir: &Path,
    parameters: &Parameters,
    control: &Control,
) -> Result<()> {
    verify(fingerprint, dir, control).map_err(|refused| unusable(dir, refused))?;
    restore_parameters(dir, parameters)
}

/// Gives a new run the weights of a checkpoint of another one.
///
/// # Errors
/// A checkpoint that is not whole, or does not have these weights.
pub(crate) fn begin_with(dir: &Path, parameters: &Parameters, control: &Control) -> Result<()> {
    check_sums(dir, control).map_err(|refused| Error::model(refused.to_string()))?;
    restore_parameters(dir, parameters)
}

fn restore_parameters(dir: &Path, parameters: &Parameters) -> Result<()> {
    let weights = Weights::open(&dir.join(PARAMETERS))?;
    for parameter in &parameters.list {
        let values: Vec<f32> = weights
            .get(&parameter.name, &Device::Cpu)?
            .flatten_all()?
            .to_vec1()?;
        if values.len() != parameter.tensor.elem_count() {
            return Err(Error::model(format!("{} has another size", parameter.name)));
        }
        taper_autodiff::assign(&parameter.tensor, values)?;
    }
    Ok(())
}

fn unusable(dir: &Path, refused: CheckpointRefused) -> Error {
    let name = dir.file_name().unwrap_or_default();
    Error::Checkpoint {
        dir: name.to_string_lossy().into_owned(),
        refused,
    }
}

#[cfg(test)]
mod tests {
    use taper_core::RequestedAction;

    use super::*;

    #[test]
    fn the_checkpoint_of_an_abandoned_run_leaves_that_of_the_next_alone() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("step-00000001");
        let written = |attempt, content: &str| {
            let write = |dir: &Path| {
                for name in FILES {
                    fs::write(dir.join(name), content).unwrap();
                }
                Ok(())
            };
            fill(&dir, attempt, write).unwrap()
        };
        let (late, control) = (written(1, "one"), Control::new());
        control.request(RequestedAction::Cancel);
        complete(written(2, "two"), &Control::new()).unwrap();
        assert!(complete(late, &control).is_err());
        assert_eq!(fs::read_to_string(dir.join(STATE)).unwrap(), "two");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_read_for_now_is_no_damage() {
        let is_damage = |code| {
            let refused = unreadable(STATE, &io::Error::from_raw_os_error(code));
            matches!(refused, CheckpointRefused::Damaged(_))
        };
        for passing in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EACCES] {
            assert!(!is_damage(passing), "{passing}");
        }
        for lasting in [libc::ENOENT, libc::EIO] {
            assert!(is_damage(lasting), "{lasting}");
        }
    }
}
