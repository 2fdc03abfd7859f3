//! What others write, as the fuzzer (`fuzz/`) hands it over: each function reads bytes and may refuse them, but neither panic nor take
//! long. The fuzzer's corpora are replayed as tests.

use std::io::ErrorKind;

use crate::{families::Arch, model_folder::read_header};

pub use crate::data::fuzzing::{chat_template, jsonl_row};

/// Reads the header of a file of weights: every tensor must lie within the file and have the bytes of its shape.
pub fn safetensors_header(bytes: &[u8]) {
    let read = |room: &mut [u8], place: u64| {
        let part = bytes.get(place as usize..).unwrap_or_default();
        room.copy_from_slice(part.get(..room.len()).ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    };
    let Ok((header, data)) = read_header(bytes.len() as u64, read) else {
        return;
    };
    for (name, info) in header.tensors() {
        let (start, end) = info.data_offsets;
        assert!(start <= end && data as usize + end <= bytes.len(), "{name}");
        let elements: usize = info.shape.iter().product();
        let bits = elements * info.dtype.bitsize();
        assert_eq!((end - start) * 8, bits, "{name}");
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
