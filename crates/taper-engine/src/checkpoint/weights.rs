use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs::{self, File},
    path::Path,
};

use candle_core::{DType, Device, Tensor};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors, View};
use serde::Deserialize;

use super::digest::{digest, digest_of_all};
use crate::{Error, Result, error::Doing};

/// The weights in one file.
pub(super) const SINGLE: &str = "model.safetensors";
/// The list of shards.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// Beyond this a header is not one of a model's.
const LARGEST_HEADER_BYTES: u64 = 16 << 20;

/// The tensors of one safetensors file or of several shards, read on demand.
pub(crate) struct Weights {
    files: Vec<Mapped>,
    places: BTreeMap<String, Stored>,
}

/// Where a tensor lies, and what it is.
struct Stored {
    shape: Vec<usize>,
    format: Dtype,
    /// Number of its file.
    file: usize,
}

/// A safetensors file in memory.
struct Mapped {
    map: Mmap,
    name: String,
}

impl Weights {
    /// Opens the weights of a model folder: `model.safetensors`, or the shards that `model.safetensors.index.json` lists.
    ///
    /// # Errors
    /// A file that is missing or no safetensors file.
    pub(crate) fn of_folder(dir: &Path) -> Result<Self> {
        let index = dir.join(INDEX);
        if dir.join(SINGLE).is_file() || !index.is_file() {
            return Self::open(&dir.join(SINGLE));
        }
        let text = fs::read_to_string(index).doing(|| format!("cannot read {INDEX}"))?;
        let index: Index =
            serde_json::from_str(&text).map_err(|e| Error::model(format!("{INDEX}: {e}")))?;
        let shards: BTreeSet<&String> = index.weight_map.values().collect();
        if let Some(path) = shards
            .iter()
            .find(|name| Path::new(name.as_str()).file_name() != Some(OsStr::new(name.as_str())))
        {
            return Err(Error::model(format!(
                "{INDEX}: '{path}' is not the name of a file in the model folder"
            )));
        }
        let files = shards
            .into_iter()
            .map(|name| Mapped::open(&dir.join(name)))
            .collect::<Result<_>>()?;
        Self::of(files)
    }

    /// Opens one file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Self::of(vec![Mapped::open(path)?])
    }

    fn of(files: Vec<Mapped>) -> Result<Self> {
        let mut places = BTreeMap::new();
        for (number, file) in files.iter().enumerate() {
            for (name, view) in file.tensors()?.iter() {
                let stored = Stored {
                    shape: view.shape().to_vec(),
                    format: view.dtype(),
                    file: number,
                };
                if places.insert(name.to_owned(), stored).is_some() {
                    return Err(Error::model(format!(
                        "the tensor {name} is in two of the weight files"
                    )));
                }
            }
        }
        Ok(Self { files, places })
    }

    /// The hash of each file, by name.
    pub(super) fn digests(&self) -> Vec<(&str, [u8; 32])> {
        self.files
            .iter()
            .map(|file| (file.name.as_str(), digest(&file.map)))
            .collect()
    }

    /// The hash of all files with their names.
    pub(crate) fn digest(&self) -> [u8; 32] {
        digest_of_all(self.digests())
    }

    /// Bytes of the files.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.map.len() as u64).sum()
    }

    /// Names of all tensors.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// The shape of a tensor; `None` when it is not there.
    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.places.get(name).map(|stored| stored.shape.as_slice())
    }

    /// Whether a tensor is stored in bf16.
    pub(crate) fn is_bf16(&self, name: &str) -> bool {
        let stored = self.places.get(name);
        stored.is_some_and(|stored| stored.format == Dtype::BF16)
    }

    /// A tensor as f32 on `device`.
    ///
    /// # Errors
    /// A name that is not in the files, a number format that is not a float.
    pub(crate) fn get(&self, name: &str, device: &Device) -> Result<Tensor> {
        Ok(self.stored(name, device)?.to_dtype(DType::F32)?)
    }

    /// A tensor on `device` in the format of its file.
    ///
    /// # Errors
    /// A name that is not in the files, a number format that is not a float.
    pub(crate) fn stored(&self, name: &str, device: &Device) -> Result<Tensor> {
        let missing = || Error::model(format!("the weights have no tensor {name}"));
        let stored = self.places.get(name).ok_or_else(missing)?;
        let file = &self.files[stored.file];
        let tensors = file.tensors()?;
        let view = tensors.tensor(name).map_err(|_| missing())?;
        let dtype = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            other => {
                return Err(Error::model(format!(
                    "{}: the tensor {name} is {other:?}; supported: F32, F16, BF16",
                    file.name
                )));
            }
        };
        Ok(Tensor::from_raw_buffer(
            view.data(),
            dtype,
            view.shape(),
            device,
        )?)
    }
}

impl Mapped {
    fn open(path: &Path) -> Result<Self> {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let file = File::open(path)
            .map_err(|e| Error::model(format!("the weight file {name} cannot be opened: {e}")))?;
        // SAFETY: the file lies in a folder that only the administrator, or taper itself, writes to; a file that is cut
        // while it is mapped would end the process, and is excluded by replacing files through rename only.
        #[expect(
            unsafe_code,
            reason = "mapping a file is the one way not to hold large weights twice"
        )]
        let map = unsafe { Mmap::map(&file) }.doing(|| format!("cannot map {name}"))?;
        let mapped = Self { map, name };
        mapped.tensors()?;
        Ok(mapped)
    }

    fn tensors(&self) -> Result<SafeTensors<'_>> {
        safetensors_of(&self.map).map_err(|why| {
            Error::model(format!(
                "{} is not a safetensors file ({why}); download or export the model again",
                self.name
            ))
        })
    }
}

/// The tensors that the bytes of a file hold.
///
/// # Errors
/// Why they are no safetensors file.
pub(crate) fn safetensors_of(bytes: &[u8]) -> std::result::Result<SafeTensors<'_>, String> {
    let header = bytes
        .first_chunk::<8>()
        .map(|length| u64::from_le_bytes(*length));
    if header.is_none_or(|length| length > LARGEST_HEADER_BYTES) {
        return Err("its header has no sensible length".to_owned());
    }
    SafeTensors::deserialize(bytes).map_err(|error| error.to_string())
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Writes tensors as a safetensors file with the metadata that PEFT and transformers write, and leaves it to the caller to bring it to the disk.
pub(crate) fn write_safetensors<V>(path: &Path, tensors: &[(String, V)]) -> Result<()>
where
    for<'a> &'a V: View,
{
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    safetensors::serialize_to_file(
        tensors.iter().map(|(name, tensor)| (name, tensor)),
        Some(metadata),
        path,
    )?;
    Ok(())
}
