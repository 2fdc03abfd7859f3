//! A whole model in Hugging Face layout.

use std::path::Path;

use candle_core::DType;
use serde_json::json;

use super::Export;
use crate::{
    Result, families::Arch, model_folder::write_safetensors, tasks::task, text_file::write_json,
};

pub(super) fn write_model(export: &Export<'_>, dir: &Path) -> Result<()> {
    let mut config = export.folder().config.clone();
    let task = task(export.data.task);
    config["architectures"] = json!([task.architecture(export.folder().arch.family())]);
    task.write_config(&mut config, &export.data.classes);
    if let Some(pad) = export.data.pad() {
        config["pad_token_id"] = json!(pad);
    }
    // Of the base's origin; these are other weights.
    if let Some(config) = config.as_object_mut() {
        config.shift_remove("_name_or_path");
    }
    if let Arch::Decoder(decoder) = &export.folder().arch
        && config.get("tie_word_embeddings").is_some()
    {
        // As it was trained; readers older than transformers 5.8 go by this alone.
        config["tie_word_embeddings"] = json!(decoder.options.tied);
    }
    for key in ["torch_dtype", "dtype"] {
        if config.get(key).is_some() {
            config[key] = json!("float32");
        }
    }
    write_json(&dir.join("config.json"), &config)?;
    let mut tensors = export.model.parameters.tensors();
    for (name, tensor) in &export.model.frozen {
        tensors.push((name.clone(), tensor.to_dtype(DType::F32)?));
    }
    write_safetensors(&dir.join("model.safetensors"), &tensors)
}
