use candle_core::Tensor;
use serde_json::{Value, json};
use taper_autodiff::{Param, backend_of};
use taper_core::{FieldError, Method, PromptInit, PromptTuning};

use super::{AdapterFormat, Exported, NewParameters, Tuner};
use crate::{
    Error, Result,
    families::Arch,
    model_folder::ModelFolder,
    parameters::{Group, Kind},
    random::Stream,
};

/// The name of the virtual tokens, as PEFT stores them.
const PROMPT: &str = "prompt_embeddings";

/// Trains vectors in front of every sequence.
pub(super) struct PromptTuner<'a> {
    prompt: &'a PromptTuning,
}

impl<'a> PromptTuner<'a> {
    pub(super) fn new(prompt: &'a PromptTuning) -> Self {
        Self { prompt }
    }
}

impl Tuner for PromptTuner<'_> {
    fn trains(&self, _: &str, _: Kind, _: Group) -> Result<bool> {
        Ok(false)
    }

    fn virtual_tokens(&self, new: &mut NewParameters<'_>, tokens: &Param) -> Result<Option<Param>> {
        let (_, width) = tokens.tensor.dims2()?;
        let shape = [self.prompt.num_virtual_tokens as usize, width];
        let (folder, seed) = (new.folder, new.seed);
        let start = || initial_prompt(self.prompt, folder, &tokens.tensor, seed);
        let place = (Kind::Embedding, Group::Adapter("prompt"));
        Ok(Some(new.add(PROMPT, place, &shape, start)?))
    }

    fn check(&self, arch: &Arch) -> Result<()> {
        if self.prompt.num_virtual_tokens as usize + 2 <= arch.max_length() {
            return Ok(());
        }
        let param = "tuning.num_virtual_tokens";
        let message = format!(
            "'{param}' leaves no room in the model's {} positions",
            arch.max_length()
        );
        Err(FieldError::invalid(param, message).into())
    }

    fn card(&self) -> &'static str {
        "Trained virtual tokens for"
    }

    fn adapter_format(&self) -> Option<&dyn AdapterFormat> {
        Some(self)
    }
}

impl AdapterFormat for PromptTuner<'_> {
    fn peft_type(&self) -> &'static str {
        "PROMPT_TUNING"
    }

    /// Virtual tokens have no prefix, and the heads beside them a shorter one.
    fn stored_name(&self, name: &str) -> String {
        match name {
            PROMPT => name.to_owned(),
            _ => format!("base_model.{name}"),
        }
    }

    fn config(&self, exported: &Exported<'_>) -> Value {
        let (prompt, arch) = (self.prompt, exported.arch);
        let mut config = json!({
            "base_model_name_or_path": exported.base_model, "inference_mode": true, "num_attention_heads": arch.heads(),
            "num_layers": arch.layers(), "num_transformer_submodules": 1, "num_virtual_tokens": prompt.num_virtual_tokens,
            "peft_type": self.peft_type(), "prompt_tuning_init": prompt.prompt_tuning_init.as_str(),
            "task_type": exported.task.as_str(), "token_dim": arch.hidden_size(),
        });
        if let Some(text) = &prompt.prompt_tuning_init_text {
            config["prompt_tuning_init_text"] = json!(text);
            // With the text PEFT also wants to know a tokenizer; while it only loads, it does not open it.
            config["tokenizer_name_or_path"] = json!(exported.base_model);
        }
        // A classifier's head is saved by every version; only later ones know the setting.
        if !exported.trained_modules.is_empty() {
            config["modules_to_save"] = exported.modules_to_save(&[]);
        }
        config
    }

    fn read(&self, config: &Value) -> Result<Method, String> {
        let count = config.get("num_virtual_tokens").and_then(Value::as_u64);
        Ok(Method::PromptTuning(PromptTuning {
            num_virtual_tokens: count.unwrap_or_default(),
            ..PromptTuning::default()
        }))
    }
}

/// The virtual tokens before training, `[num_virtual_tokens, hidden]`, by PEFT's rules; `table` is the embedding table.
fn initial_prompt(
    prompt: &PromptTuning,
    folder: &ModelFolder,
    table: &Tensor,
    seed: u64,
) -> Result<Tensor> {
    let (vocabulary, width) = table.dims2()?;
    let count = prompt.num_virtual_tokens as usize;
    let mut stream = Stream::new(seed, PROMPT);
    let ids: Vec<usize> = match prompt.prompt_tuning_init {
        PromptInit::Random => {
            let values = stream.normal(count * width, 1.0);
            return Ok(Tensor::from_vec(values, (count, width), table.device())?);
        }
        PromptInit::SampleVocab => (0..count)
            .map(|_| (stream.unit() * vocabulary as f64) as usize)
            .collect(),
        PromptInit::Text => {
            let ids = text_ids(
                prompt
                    .prompt_tuning_init_text
                    .as_deref()
                    .unwrap_or_default(),
                folder,
            )?;
            ids.into_iter().cycle().take(count).collect()
        }
    };
    let rows: Vec<u32> = ids.into_iter().map(|id| id as u32).collect();
    Ok(backend_of(table.device()).embedding(table, &rows)?)
}

/// The text's tokens, special ones included, as PEFT takes them.
fn text_ids(text: &str, folder: &ModelFolder) -> Result<Vec<usize>> {
    let mut tokenizer = folder.tokenizer()?;
    let refuse = |e: &dyn std::fmt::Display| {
        Error::model(format!(
            "the tokenizer failed on prompt_tuning_init_text: {e}"
        ))
    };
    tokenizer
        .with_padding(None)
        .with_truncation(None)
        .map_err(|e| refuse(&e))?;
    let encoding = tokenizer.encode(text, true).map_err(|e| refuse(&e))?;
    let ids: Vec<usize> = encoding.get_ids().iter().map(|id| *id as usize).collect();
    let size = folder.arch.vocab_size();
    if let Some(id) = ids.iter().find(|id| **id >= size) {
        return Err(refuse(&format!(
            "the token {id} is beyond the model's {size} embeddings"
        )));
    }
    if ids.is_empty() {
        let param = "tuning.prompt_tuning_init_text";
        return Err(FieldError::invalid(param, format!("'{param}' has no tokens")).into());
    }
    Ok(ids)
}
