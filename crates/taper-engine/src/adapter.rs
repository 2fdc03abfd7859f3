//! Adapters in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`. What stands in them is said by the methods.

use std::{fs, path::Path};

use candle_core::{Device, Tensor};
use serde_json::Value;
use taper_core::{Method, TaskType};

use crate::{
    Error, Result,
    error::Doing,
    families::Arch,
    methods::{AdapterFormat, Exported, tuner},
    model_folder::{Weights, write_safetensors},
    models::Model,
    tasks::task,
    text_file::write_json,
};

/// The file of an adapter's weights.
pub(crate) const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";

/// What a run has made of a model, as far as an adapter tells of it.
pub(crate) struct Tuned<'a> {
    /// A name by which the base is found.
    pub(crate) base_model: &'a str,
    pub(crate) arch: &'a Arch,
    pub(crate) task: TaskType,
    pub(crate) model: &'a Model,
}

pub(crate) fn write_adapter(
    tuned: &Tuned<'_>,
    format: &dyn AdapterFormat,
    dir: &Path,
) -> Result<()> {
    let config = format.config(&Exported {
        base_model: tuned.base_model,
        arch: tuned.arch,
        task: tuned.task,
        heads: task(tuned.task).heads(),
        adapted: &tuned.model.adapted,
        trained_modules: &tuned.model.modules_to_save,
    });
    write_json(&dir.join("adapter_config.json"), &config)?;
    let tensors = tuned.model.parameters.tensors().into_iter();
    let tensors = tensors.map(|(name, t)| (format.stored_name(&name), t));
    write_safetensors(&dir.join(ADAPTER_WEIGHTS), &tensors.collect::<Vec<_>>())
}

/// Reads an adapter that PEFT or taper wrote: the method with its settings, and its tensors under the names of the trained parameters.
///
/// # Errors
/// A folder without an adapter, a kind of adapter that is not supported.
pub(crate) fn read_adapter(dir: &Path) -> Result<(Method, Vec<(String, Tensor)>)> {
    let text = fs::read_to_string(dir.join("adapter_config.json"))
        .doing(|| "cannot read adapter_config.json".to_owned())?;
    let config: Value = serde_json::from_str(&text)?;
    let wanted = config.get("peft_type").and_then(Value::as_str);
    for method in Method::all() {
        // What the format says does not depend on the number of layers.
        let tuner = tuner(&method, 0)?;
        let format = tuner.adapter_format();
        if let Some(format) = format.filter(|it| Some(it.peft_type()) == wanted) {
            let method = format.read(&config);
            let method = method.map_err(|reason| refuse(dir, reason))?;
            return Ok((method, read_tensors(dir, format)?));
        }
    }
    let kind = wanted.unwrap_or("(none)");
    Err(refuse(
        dir,
        format!("the adapter type {kind} is not supported"),
    ))
}

/// The tensors of an adapter, under the names that they have in the tuned model.
fn read_tensors(dir: &Path, format: &dyn AdapterFormat) -> Result<Vec<(String, Tensor)>> {
    let weights = Weights::open(&dir.join(ADAPTER_WEIGHTS))?;
    let mut tensors = Vec::new();
    for stored in weights.names() {
        let prefixes = ["base_model.model.", "base_model.", ""];
        let name = prefixes
            .iter()
            .filter_map(|prefix| stored.strip_prefix(prefix))
            .find(|name| stored == format.stored_name(name));
        let name = name.ok_or_else(|| {
            refuse(
                dir,
                format!("the tensor {stored} has no place in the base model"),
            )
        })?;
        tensors.push((name.to_owned(), weights.get(stored, &Device::Cpu)?));
    }
    Ok(tensors)
}

fn refuse(dir: &Path, reason: impl Into<String>) -> Error {
    let (name, reason) = (dir.file_name().unwrap_or_default(), reason.into());
    Error::model(format!(
        "the adapter in {} cannot be used: {reason}",
        name.to_string_lossy()
    ))
}
