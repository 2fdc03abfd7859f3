//! What the numbers of a run depend on beside the code. A checkpoint goes on only where all of it is the same.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use taper_core::{RunSpec, StartFrom, StartWeights};

use crate::{
    Result,
    checkpoint::{ModelFolder, Weights},
    export::ADAPTER_WEIGHTS,
    state::PARAMETERS,
};

/// Hashes of settings, data, base model and the weights that the run began with; hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    settings: String,
    training_file: String,
    validation_file: Option<String>,
    base_model: String,
    /// What was put on top of the base; `None` = fresh weights.
    start_from: Option<String>,
}

impl Fingerprint {
    /// Reads the whole model folder: what stands at its path may have been replaced since an earlier start.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn of(run: &RunSpec, folder: &ModelFolder) -> Result<Self> {
        let settings = serde_json::to_vec(&(&run.spec.tuning, &run.spec.training))?;
        Ok(Self {
            settings: hex(&Sha256::digest(settings)),
            training_file: run.training_file.sha256.clone(),
            validation_file: run.validation_file.as_ref().map(|file| file.sha256.clone()),
            base_model: hex(&folder.digest()?),
            start_from: run.start_from.as_ref().map(digest_of).transpose()?,
        })
    }

    /// What a run under `other` does not share with this one; `None` when it shares everything.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        let parts = [
            ("settings", self.settings == other.settings),
            ("training data", self.training_file == other.training_file),
            (
                "validation data",
                self.validation_file == other.validation_file,
            ),
            (
                "files of the base model",
                self.base_model == other.base_model,
            ),
            ("weights to begin with", self.start_from == other.start_from),
        ];
        let differing: Vec<&str> = parts
            .into_iter()
            .filter(|(_, same)| !same)
            .map(|(name, _)| name)
            .collect();
        (!differing.is_empty()).then(|| differing.join(" and "))
    }
}

fn digest_of(start: &StartFrom) -> Result<String> {
    let file = match &start.weights {
        StartWeights::Adapter(dir) => dir.join(ADAPTER_WEIGHTS),
        StartWeights::Checkpoint(dir) => dir.join(PARAMETERS),
    };
    Ok(hex(&Weights::open(&file)?.digest()?))
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
