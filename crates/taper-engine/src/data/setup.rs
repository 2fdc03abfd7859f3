use std::{fs, io, path::Path};

use serde_json::Value;
use tokenizers::Tokenizer;

use super::{ChatTemplate, Content, Part, Row, SpecialTokens};
use crate::{Error, Result};

/// A model's tokenizer and what its folder says about using it.
#[derive(Debug)]
pub(crate) struct TokenizerSetup {
    pub(crate) tokenizer: Tokenizer,
    pub(crate) template: Option<ChatTemplate>,
    pub(crate) bos: Option<String>,
    /// The token that ends a text.
    pub(crate) eos: Option<u32>,
}

impl TokenizerSetup {
    /// Reads what stands beside `tokenizer.json` in a model folder; `config` is its `config.json`.
    ///
    /// # Errors
    /// A file that is not JSON; a chat template that cannot be parsed.
    pub(crate) fn open(dir: &Path, mut tokenizer: Tokenizer, config: &Value) -> Result<Self> {
        tokenizer
            .with_padding(None)
            .with_truncation(None)
            .map_err(|e| Error::model(format!("tokenizer.json cannot be used: {e}")))?;
        let tokenizer_config = optional_json(dir, "tokenizer_config.json")?;
        let map = optional_json(dir, "special_tokens_map.json")?;
        let special = |name| token(&tokenizer_config, name).or_else(|| token(&map, name));
        let tokens = SpecialTokens {
            bos: special("bos_token"),
            eos: special("eos_token"),
            unk: special("unk_token"),
            pad: special("pad_token"),
        };
        let named = tokens
            .eos
            .as_deref()
            .and_then(|eos| tokenizer.token_to_id(eos));
        let eos = match named {
            Some(id) => Some(id),
            None => {
                eos_id(&optional_json(dir, "generation_config.json")?).or_else(|| eos_id(config))
            }
        };
        Ok(Self {
            bos: tokens.bos.clone(),
            template: ChatTemplate::open(dir, &tokenizer_config, tokens)?,
            tokenizer,
            eos,
        })
    }

    /// Makes sure that rows of this kind can become tokens.
    ///
    /// # Errors
    /// A model without chat template for chats; a model without end token for any text to be continued.
    pub(crate) fn check(&self, rows: &[Row], part: Part) -> Result<()> {
        let Some(row) = rows.first() else {
            return Ok(());
        };
        if matches!(row.content, Content::Chat { .. }) && self.template.is_none() {
            let message = "holds chats, but the model folder has no chat template (chat_template.jinja, or 'chat_template' in tokenizer_config.json); take an instruction-tuned model, or write the rows as prompt and completion";
            return Err(part.refuse(message).into());
        }
        match row.content {
            Content::Labelled { .. } => Ok(()),
            Content::Completion { .. } | Content::Chat { .. } | Content::Text(_) => {
                self.end_token().map(drop)
            }
        }
    }

    /// # Errors
    /// A folder that names none.
    pub(crate) fn end_token(&self) -> Result<u32> {
        self.eos.ok_or_else(|| {
            Error::model(
                "the model folder names no token that ends a text; add 'eos_token' to tokenizer_config.json or 'eos_token_id' to config.json",
            )
        })
    }
}

/// The content of a JSON file, null without the file.
fn optional_json(dir: &Path, name: &str) -> Result<Value> {
    match fs::read(dir.join(name)) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|e| Error::model(format!("{name} is not JSON: {e}"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Value::Null),
        Err(error) => Err(Error::model(format!("{name} cannot be read: {error}"))),
    }
}

/// A special token: its text, or an object with it.
fn token(config: &Value, name: &str) -> Option<String> {
    let value = config.get(name)?;
    value
        .as_str()
        .or_else(|| value.get("content")?.as_str())
        .map(str::to_owned)
}

/// The end token's id; of several the first.
fn eos_id(config: &Value) -> Option<u32> {
    let value = config.get("eos_token_id")?;
    value
        .as_array()
        .map_or(Some(value), |ids| ids.first())?
        .as_u64()
        .and_then(|id| u32::try_from(id).ok())
}
