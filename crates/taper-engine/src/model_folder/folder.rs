use std::{
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value;
use taper_core::Control;
use tokenizers::Tokenizer;

use super::{
    Base, Weights,
    digest::{digest, digest_of_all},
    weights::{INDEX, SINGLE},
};
use crate::{
    Error, Result,
    error::Doing,
    families::{Arch, DecoderConfig, OUTPUT_TABLE},
};

/// Files beside weights, tokenizer and templates that a run's numbers follow from.
const CONFIG_FILES: [&str; 2] = ["config.json", "generation_config.json"];

/// Files of a model folder that an export carries along, so that the result can be used without the base's folder.
const TOKENIZER_FILES: [&str; 6] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "added_tokens.json",
    "chat_template.jinja",
];

/// The folder of the chat templates that have names, each a file of this ending, and an export carries them along, too.
const TEMPLATES: &str = "additional_chat_templates";
const TEMPLATE_ENDING: &str = ".jinja";

/// The files of a model folder's named chat templates, by their places in it, in order.
pub(crate) fn named_templates(dir: &Path) -> Vec<String> {
    // A folder that cannot be read is told by whoever needs the templates.
    let entries = fs::read_dir(dir.join(TEMPLATES)).into_iter().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(TEMPLATE_ENDING))
        .map(|name| format!("{TEMPLATES}/{name}"))
        .filter(|name| dir.join(name).is_file())
        .collect();
    names.sort();
    names
}

/// A model folder whose configuration has been read.
#[derive(Debug, Clone)]
pub(crate) struct ModelFolder {
    dir: PathBuf,
    /// The whole `config.json`, for the export.
    pub(crate) config: Value,
    pub(crate) arch: Arch,
    /// Whether a head in the weights may be trained on, or tells other classes apart than the run.
    pub(crate) keeps_head: bool,
    /// What all models that are loaded from this folder, or from a clone of it, have in common.
    pub(crate) base: Arc<Base>,
}

/// The classes that a configuration names, by their ids; `None` where it has no names but those that transformers makes up.
fn class_names(config: &Value) -> Option<Vec<String>> {
    let named = config.get("id2label")?.as_object()?;
    let name = |id: usize| Some(named.get(&id.to_string())?.as_str()?.to_owned());
    let names: Vec<String> = (0..named.len()).map(name).collect::<Option<_>>()?;
    let is_made_up = |(id, name): (usize, &String)| *name == format!("LABEL_{id}");
    (!names.iter().enumerate().all(is_made_up)).then_some(names)
}

/// Whether the weights have an output table of other values than the embedding table's. From 5.8 on transformers keeps both then, whatever
/// `tie_word_embeddings` says.
fn has_own_output_table(dir: &Path, decoder: &DecoderConfig) -> Result<bool> {
    // A file that cannot be opened is told by whoever needs the weights.
    let Ok(weights) = Weights::of_folder(dir) else {
        return Ok(false);
    };
    let embeddings = weights.find(&format!("{}.weight", decoder.modules.embeddings));
    match embeddings.zip(weights.find(OUTPUT_TABLE)) {
        Some((embeddings, output)) => Ok(!weights.are_equal(&embeddings, &output)?),
        None => Ok(false),
    }
}

impl ModelFolder {
    /// Reads `config.json` and makes sure that weights and tokenizer are there.
    ///
    /// # Errors
    /// What is missing or not supported, as an error on `model`.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let has = |name: &str| dir.join(name).is_file();
        let missing = ["config.json", "tokenizer.json"]
            .into_iter()
            .find(|name| !has(name));
        let missing = missing.or_else(|| (!has(SINGLE) && !has(INDEX)).then_some(SINGLE));
        if let Some(name) = missing {
            return Err(Error::model(format!(
                "the model folder has no {name}; it must be in Hugging Face layout"
            )));
        }
        Self::read(dir)
    }

    /// A folder of which only configuration and weights are wanted.
    #[cfg(test)]
    pub(crate) fn without_tokenizer(dir: &Path) -> Result<Self> {
        Self::read(dir)
    }

    fn read(dir: &Path) -> Result<Self> {
        let text = fs::read_to_string(dir.join("config.json"))
            .doing(|| "cannot read config.json".to_owned())?;
        let config: Value = serde_json::from_str(&text)
            .map_err(|e| Error::model(format!("config.json is not JSON: {e}")))?;
        let mut arch = Arch::parse(&config)?;
        if let Arch::Decoder(decoder) = &mut arch {
            decoder.options.tied = decoder.options.tied && !has_own_output_table(dir, decoder)?;
        }
        Ok(Self {
            dir: dir.to_owned(),
            config,
            arch,
            keeps_head: true,
            base: Arc::default(),
        })
    }

    /// This folder for a run that tells these classes apart. A head of other classes is newly initialised, as transformers does where
    /// sizes differ: to go on with it would let each class begin with what was learned for another.
    pub(crate) fn for_classes(self, classes: &[String]) -> Self {
        let named = class_names(&self.config);
        Self {
            keeps_head: classes.is_empty() || named.is_none_or(|named| named == classes),
            ..self
        }
    }

    /// Opens the weights; reads the header only.
    pub(crate) fn weights(&self) -> Result<Weights> {
        Weights::of_folder(&self.dir)
    }

    /// The hash of everything in the folder that a run's numbers follow from: configuration, weights, tokenizer, chat template.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn digest(&self, control: &Control) -> Result<[u8; 32]> {
        let weights = self.weights()?;
        let mut digests = weights.digests(control)?;
        let templates = named_templates(&self.dir);
        // Without named templates the hash stays what it was before there were any.
        let names = CONFIG_FILES.into_iter().chain(TOKENIZER_FILES);
        for name in names.chain(templates.iter().map(String::as_str)) {
            let path = self.dir.join(name);
            if path.is_file() {
                let digest = fs::File::open(path).and_then(|file| digest(&file, control));
                digests.push((name, digest.doing(|| format!("cannot read {name}"))?));
            }
        }
        Ok(digest_of_all(digests))
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Loads the tokenizer.
    pub(crate) fn tokenizer(&self) -> Result<Tokenizer> {
        let path = self.dir.join("tokenizer.json");
        // Published tokenizers panic on some files.
        catch_unwind(|| Tokenizer::from_file(path))
            .map_err(|_| {
                Error::model("tokenizer.json cannot be loaded: the tokenizer library gave up on it")
            })?
            .map_err(|e| Error::model(format!("tokenizer.json cannot be loaded: {e}")))
    }

    /// Bytes of the tokenizer's files.
    pub(crate) fn tokenizer_bytes(&self) -> u64 {
        let bytes = |name: &str| fs::metadata(self.dir.join(name)).map_or(0, |file| file.len());
        let templates = named_templates(&self.dir);
        let names = TOKENIZER_FILES.into_iter();
        names
            .chain(templates.iter().map(String::as_str))
            .map(bytes)
            .sum()
    }

    /// Copies the tokenizer's files to `target`.
    pub(crate) fn copy_tokenizer(&self, target: &Path) -> Result<()> {
        let templates = named_templates(&self.dir);
        if !templates.is_empty() {
            fs::create_dir_all(target.join(TEMPLATES))
                .doing(|| format!("cannot create {TEMPLATES}"))?;
        }
        let names = TOKENIZER_FILES.into_iter();
        for name in names.chain(templates.iter().map(String::as_str)) {
            let source = self.dir.join(name);
            if source.is_file() {
                fs::copy(&source, target.join(name)).doing(|| format!("cannot copy {name}"))?;
            }
        }
        Ok(())
    }
}
