//! A whole model in Hugging Face layout.

use std::path::Path;

use candle_core::DType;
use serde_json::json;
use taper_core::TaskType;

use super::{Export, write_json};
use crate::{Result, model_folder::write_safetensors};

pub(super) fn write_model(export: &Export<'_>, dir: &Path) -> Result<()> {
    let mut config = export.folder().config.clone();
    config["architectures"] = json!([export.folder().arch.architecture(export.data.task)]);
    if export.data.task == TaskType::SeqCls {
        config["id2label"] = json!(export.id2label());
        config["label2id"] = json!(export.label2id());
        config["problem_type"] = json!("single_label_classification");
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
