//! What others write, as the fuzzer (`fuzz/`) hands it over: each function reads bytes and may refuse them, but neither panic nor take
//! long. The fuzzer's corpora are replayed as tests.

use safetensors::SafeTensors;

use crate::checkpoint::{Arch, safetensors_of};

pub use crate::data::fuzzing::{chat_template, jsonl_row};

/// Reads a file of weights: every tensor must lie within it and have the bytes of its shape.
pub fn safetensors_header(bytes: &[u8]) {
    let Ok(tensors) = safetensors_of(bytes) else {
        return;
    };
    let tensors: SafeTensors<'_> = tensors;
    for (name, view) in tensors.iter() {
        let elements: usize = view.shape().iter().product();
        let bits = elements * view.dtype().bitsize();
        assert_eq!(view.data().len() * 8, bits, "{name}");
    }
}

/// Reads a `config.json`: what is derived from its sizes must exist.
pub fn config(bytes: &[u8]) {
    let Ok(config) = serde_json::from_slice(bytes) else {
        return;
    };
    let Ok(arch) = Arch::parse(&config) else {
        return;
    };
    assert!(arch.max_length() > 0, "no row fits");
    assert!(arch.layers() > 0 && arch.heads() > 0);
    assert!(arch.hidden_size() > 0 && arch.vocab_size() > 0);
    assert!(!arch.default_target_modules().is_empty());
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    fn replay(target: &str, read: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
        let entries: Vec<_> = fs::read_dir(folder.join(target)).unwrap().collect();
        assert!(entries.len() >= 10, "{target} has hardly a corpus");
        for entry in entries {
            read(&fs::read(entry.unwrap().path()).unwrap());
        }
    }

    #[test]
    fn corpora_of_the_fuzzer() {
        replay("safetensors_header", super::safetensors_header);
        replay("jsonl_row", super::jsonl_row);
        replay("config_json", super::config);
        replay("chat_template", super::chat_template);
    }
}
