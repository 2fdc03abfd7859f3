//! What the numbers of a run depend on beside the code. A checkpoint goes on only where all of it is the same.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use taper_core::{Control, RunSpec, StartFrom, StartWeights, Training, Tuning};

use super::PARAMETERS;
use crate::{
    Result,
    adapter::ADAPTER_WEIGHTS,
    model_folder::{ModelFolder, Weights},
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
    /// Reads the whole model folder: what stands at its path may have been replaced since an earlier start. It sends heartbeats as it reads.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn of(run: &RunSpec, folder: &ModelFolder, control: &Control) -> Result<Self> {
        let mut settings = settings(&run.spec.tuning, &run.spec.training)?;
        if !run.spec.columns.is_empty() {
            settings.push_str(&serde_json::to_string(&run.spec.columns)?);
        }
        Ok(Self {
            settings: hex(&Sha256::digest(settings)),
            training_file: run.training_file.sha256.clone(),
            validation_file: run.validation_file.as_ref().map(|file| file.sha256.clone()),
            base_model: hex(&folder.digest(control)?),
            start_from: run
                .start_from
                .as_ref()
                .map(|start| digest_of(start, control))
                .transpose()?,
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

/// The settings as their hash is made. Where a field that is added later has the value by which older builds behave, it is to be left
/// out here: no checkpoint of theirs could be used after an upgrade otherwise.
fn settings(tuning: &Tuning, training: &Training) -> Result<String> {
    Ok(serde_json::to_string(&(tuning, training))?)
}

fn digest_of(start: &StartFrom, control: &Control) -> Result<String> {
    let file = match &start.weights {
        StartWeights::Adapter(dir) => dir.join(ADAPTER_WEIGHTS),
        StartWeights::Checkpoint(dir) => dir.join(PARAMETERS),
    };
    Ok(hex(&Weights::open(&file)?.digest(control)?))
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRAINING: &str = r#"{"num_train_epochs":3.0,"max_steps":-1,"per_device_train_batch_size":16,"gradient_accumulation_steps":1,"learning_rate":0.001,"lr_scheduler_type":"linear","warmup_steps":0.0,"weight_decay":0.01,"max_grad_norm":1.0,"logging_steps":10.0,"eval_steps":null,"save_steps":null,"save_minutes":10.0,"save_total_limit":3,"load_best_model_at_end":false,"metric_for_best_model":"valid_loss","early_stopping_patience":null,"max_length":256,"packing":false,"seed":42,"eval_split":null}"#;

    /// Settings as stored with a job, by method.
    const TUNINGS: [&str; 4] = [
        r#"{"type":"full","task_type":"SEQ_CLS"}"#,
        r#"{"type":"layerwise","layer_decay":0.9,"freeze_below":0,"unfreeze_every_steps":null,"learning_rates":{},"task_type":"SEQ_CLS"}"#,
        r#"{"type":"lora","r":8,"lora_alpha":16.0,"lora_dropout":0.1,"target_modules":["query","value"],"bias":"none","use_rslora":false,"rank_pattern":{},"alpha_pattern":{},"layers_to_transform":null,"modules_to_save":null,"loraplus_lr_ratio":null,"task_type":"SEQ_CLS"}"#,
        r#"{"type":"prompt_tuning","num_virtual_tokens":10,"prompt_tuning_init":"RANDOM","prompt_tuning_init_text":null,"task_type":"CAUSAL_LM"}"#,
    ];

    /// Where this fails, a checkpoint from before an upgrade cannot be used after it. The texts stay as they are: leave a new field out in
    /// [`settings`] where it changes nothing, and write a renamed one under its old name.
    #[test]
    fn the_settings_of_older_builds_have_the_same_hash() {
        for tuning in TUNINGS {
            let stored = format!("[{tuning},{TRAINING}]");
            let (tuning, training) = serde_json::from_str(&stored).unwrap();
            assert_eq!(settings(&tuning, &training).unwrap(), stored);
        }
    }
}
