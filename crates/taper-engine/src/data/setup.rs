use std::{fs, io, path::Path};

use serde_json::Value;
use tokenizers::{Tokenizer, processors::template::TemplateProcessing};

use super::{ChatTemplates, Content, Part, Row, SpecialTokens};
use crate::{Error, Result};

/// A model's tokenizer and what its folder says about using it.
#[derive(Debug)]
pub(crate) struct TokenizerSetup {
    pub(crate) tokenizer: Tokenizer,
    pub(crate) templates: Option<ChatTemplates>,
    /// Texts of the special tokens, which end the turns of chats.
    pub(crate) special: Vec<String>,
    /// The token that ends a text.
    pub(crate) eos: Option<u32>,
    /// The tokens at which the base stops writing.
    pub(crate) base_ends: Vec<u32>,
    /// The token that fills texts of a batch up, where the tokenizer names one.
    pub(crate) pad: Option<u32>,
    /// The folder's `generation_config.json`; null without one.
    pub(crate) generation: Value,
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
        let mut tokens = special_tokens(&map);
        tokens.0.extend(special_tokens(&tokenizer_config).0);
        let text = |name: &str| tokens.0.get(name).and_then(Value::as_str);
        add_ends(&mut tokenizer, &tokenizer_config, text)?;
        let named = text("eos_token").and_then(|eos| tokenizer.token_to_id(eos));
        let generation = optional_json(dir, "generation_config.json")?;
        let mut base_ends = eos_ids(&generation);
        if base_ends.is_empty() {
            base_ends = eos_ids(config);
        }
        let pad = text("pad_token").and_then(|pad| tokenizer.token_to_id(pad));
        Ok(Self {
            eos: named.or_else(|| base_ends.first().copied()),
            base_ends,
            pad,
            generation,
            templates: ChatTemplates::open(dir, &tokenizer_config, &tokens)?,
            special: tokenizer
                .get_added_tokens_decoder()
                .into_values()
                .filter(|token| token.special && !token.content.is_empty())
                .map(|token| token.content)
                .collect(),
            tokenizer,
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
        if matches!(row.content, Content::Chat { .. }) && self.templates.is_none() {
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

/// The special tokens of a file by name: each is its text, or an object with it.
fn special_tokens(config: &Value) -> SpecialTokens {
    let fields = config.as_object().into_iter().flatten();
    let tokens = fields.filter(|(name, _)| name.ends_with("_token"));
    let texts = tokens.filter_map(|(name, value)| {
        let text = value.as_str().or_else(|| value.get("content")?.as_str())?;
        Some((name.clone(), Value::from(text)))
    });
    SpecialTokens(texts.collect())
}

/// Where `tokenizer.json` does not say what stands at the ends of a text, `tokenizer_config.json` may, as transformers reads it.
fn add_ends<'a>(
    tokenizer: &mut Tokenizer,
    config: &Value,
    text: impl Fn(&str) -> Option<&'a str>,
) -> Result<()> {
    if tokenizer.get_post_processor().is_some() {
        return Ok(());
    }
    let wanted = |name: &str, token: &str| {
        let on = config.get(name).and_then(Value::as_bool) == Some(true);
        text(token)
            .filter(|_| on)
            .and_then(|text| Some((text.to_owned(), tokenizer.token_to_id(text)?)))
    };
    let (begin, end) = (
        wanted("add_bos_token", "bos_token"),
        wanted("add_eos_token", "eos_token"),
    );
    let named = |token: &Option<(String, u32)>| token.as_ref().map(|(text, _)| text.clone());
    let parts = [named(&begin), Some("$A".to_owned()), named(&end)];
    let single: Vec<String> = parts.into_iter().flatten().collect();
    let tokens: Vec<(String, u32)> = [begin, end].into_iter().flatten().collect();
    if tokens.is_empty() {
        return Ok(());
    }
    let template = TemplateProcessing::builder()
        .try_single(single)
        .map_err(|e| Error::model(format!("the tokenizer's special tokens: {e}")))?
        .special_tokens(tokens)
        .build()
        .map_err(|e| Error::model(format!("the tokenizer's special tokens: {e}")))?;
    tokenizer.with_post_processor(Some(template));
    Ok(())
}

/// The end tokens of a configuration: one, or a list.
fn eos_ids(config: &Value) -> Vec<u32> {
    let ids = match config.get("eos_token_id") {
        Some(Value::Array(ids)) => ids.as_slice(),
        Some(id) => std::slice::from_ref(id),
        None => &[],
    };
    let ids = ids.iter().filter_map(Value::as_u64);
    ids.filter_map(|id| u32::try_from(id).ok()).collect()
}
