use candle_core::Tensor;
use taper_autodiff::backend_of;
use taper_core::{FieldError, PromptInit, PromptTuning};

use super::group::PROMPT;
use crate::{Error, Result, model_folder::ModelFolder, random::Stream};

/// The virtual tokens before training, `[num_virtual_tokens, hidden]`, by PEFT's rules; `words` is the embedding table.
pub(crate) fn initial_prompt(
    prompt: &PromptTuning,
    folder: &ModelFolder,
    words: &Tensor,
    seed: u64,
) -> Result<Tensor> {
    let (vocabulary, width) = words.dims2()?;
    let count = prompt.num_virtual_tokens as usize;
    let mut stream = Stream::new(seed, PROMPT);
    let ids: Vec<usize> = match prompt.prompt_tuning_init {
        PromptInit::Random => {
            let values = stream.normal(count * width, 1.0);
            return Ok(Tensor::from_vec(values, (count, width), words.device())?);
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
    Ok(backend_of(words.device()).embedding(words, &rows)?)
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
