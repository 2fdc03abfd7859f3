//! Model folders that were read lately.

use std::{
    collections::HashMap,
    fmt::Write,
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, Mutex},
};

use taper_core::Control;

use crate::{
    Result,
    cache::Cache,
    data::{Row, TokenizerSetup, longest_row},
    model_folder::{ModelFolder, Weights, named_templates},
};

/// Folders kept; jobs of one time name few.
const KEPT: usize = 4;
/// Files of which the longest row is remembered, by model.
const LENGTHS: usize = 1000;
/// Files besides the weights on which anything read of a folder depends.
const FILES: [&str; 7] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "model.safetensors.index.json",
];

/// A model folder and what is read of it before training.
pub(crate) struct OpenModel {
    pub(crate) folder: ModelFolder,
    pub(crate) setup: Arc<TokenizerSetup>,
    /// Names and shapes have been read; the numbers lie on the disk.
    pub(crate) weights: Weights,
    /// Tells this state of the folder from every other.
    pub(crate) stamp: String,
    /// Tokens of the longest row, by file and limit.
    lengths: Mutex<HashMap<(String, usize), usize>>,
}

impl OpenModel {
    /// Tokens of the longest of a file's rows, or `limit` where it has more; `file` tells the rows from all others. They are tokenized
    /// once, since every submission asks.
    pub(crate) fn longest_row(&self, file: String, rows: &[Row], limit: usize) -> usize {
        let key = (file, limit);
        let lengths = || self.lengths.lock().ok();
        if let Some(length) = lengths().and_then(|known| known.get(&key).copied()) {
            return length;
        }
        let length = longest_row(&self.setup, rows, limit);
        if let Some(mut known) = lengths() {
            if known.len() >= LENGTHS {
                known.clear();
            }
            known.insert(key, length);
        }
        length
    }
}

/// Opens model folders and keeps the last ones, so that a submission reads nothing of a model that another has read.
pub(crate) struct Models(Cache<OpenModel>);

impl Models {
    pub(crate) fn new() -> Self {
        Self(Cache::new(KEPT))
    }

    /// The model in a folder as it is now.
    ///
    /// # Errors
    /// What is missing or not supported, as an error on `model`; a request to stop while another opens it.
    pub(crate) fn open(&self, dir: &Path, control: &Control) -> Result<Arc<OpenModel>> {
        let stamp = stamp(dir);
        self.0.get_or_make(&stamp, control, || {
            let folder = ModelFolder::open(dir)?;
            let weights = folder.weights()?;
            let tokenizer = folder.tokenizer()?;
            let setup = TokenizerSetup::open(folder.dir(), tokenizer, &folder.config)?;
            Ok(OpenModel {
                folder,
                setup: Arc::new(setup),
                weights,
                stamp: stamp.clone(),
                lengths: Mutex::default(),
            })
        })
    }
}

/// Path of a folder, and length and time of each file that matters: a file that was replaced has another.
fn stamp(dir: &Path) -> String {
    let mut stamp = dir.display().to_string();
    let mut weights: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".safetensors"))
        .collect();
    weights.sort();
    let templates = named_templates(dir);
    let others = weights.iter().chain(&templates).map(String::as_str);
    for name in FILES.into_iter().chain(others) {
        if let Ok(file) = fs::metadata(dir.join(name)) {
            // Writing to a string cannot fail.
            let _ = write!(
                stamp,
                " {name} {} {} {}.{}",
                file.ino(),
                file.len(),
                file.mtime(),
                file.mtime_nsec()
            );
        }
    }
    stamp
}
