use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use safetensors::{
    Dtype, View,
    tensor::{Metadata, TensorInfo},
};
use serde::Deserialize;
use taper_core::Control;

use super::digest::{digest, digest_of_all};
use crate::{Error, Result, error::Doing};

/// The weights in one file.
pub(super) const SINGLE: &str = "model.safetensors";
/// The list of shards.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// Beyond this a header is not one of a model's.
const LARGEST_HEADER_BYTES: u64 = 16 << 20;
/// Bytes of a file before its header: the header's length.
const LENGTH_BYTES: u64 = 8;
/// Bytes that are read at a time; a multiple of every number's.
const PART: usize = 1 << 20;

/// What wrappers put in front of the names of all weights: `torch.compile`, data parallelism, PEFT, models that see.
const WRAPPERS: [&str; 4] = [
    "_orig_mod.",
    "module.",
    "base_model.model.",
    "language_model.",
];

/// The tensors of one safetensors file or of several shards, read on demand.
pub(crate) struct Weights {
    files: Vec<WeightFile>,
    places: BTreeMap<String, Stored>,
}

/// Where a tensor lies, and what it is.
struct Stored {
    info: TensorInfo,
    /// Number of its file.
    file: usize,
}

/// An open safetensors file. It is not mapped: its pages would count as the process's memory beside the tensors made of them.
struct WeightFile {
    file: File,
    name: String,
    header: Metadata,
    /// Where the numbers begin.
    data: u64,
}

impl Weights {
    /// Opens the weights of a model folder: `model.safetensors`, or the shards that `model.safetensors.index.json` lists.
    ///
    /// # Errors
    /// A file that is missing or no safetensors file.
    pub(crate) fn of_folder(dir: &Path) -> Result<Self> {
        Self::files_of_folder(dir).map(Self::unwrapped)
    }

    fn files_of_folder(dir: &Path) -> Result<Self> {
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
            .map(|name| WeightFile::open(&dir.join(name)))
            .collect::<Result<_>>()?;
        Self::of(files)
    }

    /// Opens one file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Self::of(vec![WeightFile::open(path)?])
    }

    fn of(files: Vec<WeightFile>) -> Result<Self> {
        let mut places = BTreeMap::new();
        for (number, file) in files.iter().enumerate() {
            for (name, info) in file.header.tensors() {
                let stored = Stored {
                    info: info.clone(),
                    file: number,
                };
                if places.contains_key(&name) {
                    return Err(Error::model(format!(
                        "the tensor {name} is in two of the weight files"
                    )));
                }
                places.insert(name, stored);
            }
        }
        Ok(Self { files, places })
    }

    /// The same tensors without what a wrapper has put in front of all names.
    fn unwrapped(mut self) -> Self {
        let wraps = |prefix: &&&str, names: &BTreeMap<String, Stored>| {
            !names.is_empty() && names.keys().all(|name| name.starts_with(**prefix))
        };
        while let Some(prefix) = WRAPPERS.iter().find(|prefix| wraps(prefix, &self.places)) {
            let bare = |(name, stored): (String, Stored)| (name[prefix.len()..].to_owned(), stored);
            self.places = self.places.into_iter().map(bare).collect();
        }
        self
    }

    /// The name under which the files have a weight: with or without the base's prefix (`bert.`, `model.`), in today's or the oldest
    /// spelling.
    pub(crate) fn find(&self, name: &str) -> Option<String> {
        let bare = name.split_once('.').map_or(name, |(_, rest)| rest);
        let old = |name: &str| {
            name.replace("LayerNorm.weight", "LayerNorm.gamma")
                .replace("LayerNorm.bias", "LayerNorm.beta")
        };
        let candidates = [name.to_owned(), bare.to_owned(), old(name), old(bare)];
        candidates
            .into_iter()
            .find(|name| self.places.contains_key(name))
    }

    /// What it means that the files lack a weight; names the place where they have one of this name below another prefix.
    pub(crate) fn lack(&self, name: &str) -> Error {
        let elsewhere = self.names().find_map(|stored| {
            let prefix = stored.strip_suffix(name)?;
            prefix.ends_with('.').then_some((stored, prefix))
        });
        Error::model(match elsewhere {
            Some((stored, prefix)) => format!(
                "the model's weights have no tensor {name}, but {stored}; save the model without the prefix '{prefix}'"
            ),
            None => format!("the model's weights have no tensor {name}"),
        })
    }

    /// Whether two tensors have the same format, shape and bytes.
    ///
    /// # Errors
    /// A name that is not in the files, a file that cannot be read.
    pub(crate) fn are_equal(&self, one: &str, other: &str) -> Result<bool> {
        let (one, other) = (self.place(one)?, self.place(other)?);
        if (one.info.dtype, &one.info.shape) != (other.info.dtype, &other.info.shape) {
            return Ok(false);
        }
        let (first, second) = (&self.files[one.file], &self.files[other.file]);
        let (start, end) = one.info.data_offsets;
        let distance = other.info.data_offsets.0;
        let mut parts = [vec![0; PART], vec![0; PART]];
        for place in (0..end - start).step_by(PART) {
            let length = PART.min(end - start - place);
            let [a, b] = parts.each_mut().map(|part| &mut part[..length]);
            first.read_bytes(a, start + place)?;
            second.read_bytes(b, distance + place)?;
            if a != b {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The hash of each file, by name.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(super) fn digests(&self, control: &Control) -> Result<Vec<(&str, [u8; 32])>> {
        let digest =
            |file: &WeightFile| digest(&file.file, control).doing(|| file.cannot_be_read());
        self.files
            .iter()
            .map(|file| Ok((file.name.as_str(), digest(file)?)))
            .collect()
    }

    /// The hash of all files with their names.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn digest(&self, control: &Control) -> Result<[u8; 32]> {
        Ok(digest_of_all(self.digests(control)?))
    }

    /// Names of all tensors.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// The shape of a tensor; `None` when it is not there.
    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.places
            .get(name)
            .map(|stored| stored.info.shape.as_slice())
    }

    /// The format in which a tensor is stored, if that takes less memory than f32.
    pub(crate) fn short_format(&self, name: &str) -> Option<DType> {
        match self.places.get(name)?.info.dtype {
            Dtype::F16 => Some(DType::F16),
            Dtype::BF16 => Some(DType::BF16),
            _ => None,
        }
    }

    /// A tensor as f32 on `device`.
    ///
    /// # Errors
    /// A name that is not in the files, a number format that is not a float, a file that cannot be read.
    pub(crate) fn get(&self, name: &str, device: &Device) -> Result<Tensor> {
        let stored = self.place(name)?;
        let (file, info) = (&self.files[stored.file], &stored.info);
        let numbers = match info.dtype {
            Dtype::F32 => file.read(info, f32::from_le_bytes),
            Dtype::F16 => file.read(info, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Dtype::BF16 => file.read(info, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            other => {
                return Err(Error::model(format!(
                    "{}: the tensor {name} is {other:?}; supported: F32, F16, BF16",
                    file.name
                )));
            }
        };
        let numbers = numbers.doing(|| file.cannot_be_read())?;
        Ok(Tensor::from_vec(numbers, info.shape.as_slice(), device)?)
    }

    /// A tensor in this format on `device`; one that is stored so is not widened on the way.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(crate) fn get_as(&self, name: &str, format: DType, device: &Device) -> Result<Tensor> {
        let stored = self.place(name)?;
        let (file, info) = (&self.files[stored.file], &stored.info);
        let shape = info.shape.as_slice();
        match (info.dtype, format) {
            (Dtype::F16, DType::F16) => {
                let numbers = file.read(info, f16::from_le_bytes);
                let numbers = numbers.doing(|| file.cannot_be_read())?;
                Ok(Tensor::from_vec(numbers, shape, device)?)
            }
            (Dtype::BF16, DType::BF16) => {
                let numbers = file.read(info, bf16::from_le_bytes);
                let numbers = numbers.doing(|| file.cannot_be_read())?;
                Ok(Tensor::from_vec(numbers, shape, device)?)
            }
            _ => Ok(self.get(name, device)?.to_dtype(format)?),
        }
    }

    fn place(&self, name: &str) -> Result<&Stored> {
        let missing = || Error::model(format!("the weights have no tensor {name}"));
        self.places.get(name).ok_or_else(missing)
    }
}

impl WeightFile {
    fn open(path: &Path) -> Result<Self> {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let refuse = |e| Error::model(format!("the weight file {name} cannot be opened: {e}"));
        let file = File::open(path).map_err(refuse)?;
        let bytes = file.metadata().map_err(refuse)?.len();
        let (header, data) = read_header(bytes, |room, place| file.read_exact_at(room, place))
            .map_err(|why| {
                Error::model(format!(
                    "{name} is not a safetensors file ({why}); download or export the model again"
                ))
            })?;
        Ok(Self {
            file,
            name,
            header,
            data,
        })
    }

    /// The numbers of a tensor, each made of `N` bytes.
    fn read<const N: usize, T>(
        &self,
        info: &TensorInfo,
        number: impl Fn([u8; N]) -> T,
    ) -> io::Result<Vec<T>> {
        let (start, end) = info.data_offsets;
        let mut numbers = Vec::with_capacity((end - start) / N);
        let mut room = vec![0; PART.min(end - start)];
        for place in (start..end).step_by(PART) {
            let part = &mut room[..PART.min(end - place)];
            self.file.read_exact_at(part, self.data + place as u64)?;
            numbers.extend(part.as_chunks().0.iter().map(|bytes| number(*bytes)));
        }
        Ok(numbers)
    }

    /// Bytes from a place behind the header on.
    fn read_bytes(&self, part: &mut [u8], place: usize) -> Result<()> {
        let read = self.file.read_exact_at(part, self.data + place as u64);
        read.doing(|| self.cannot_be_read())
    }

    fn cannot_be_read(&self) -> String {
        format!("cannot read {}", self.name)
    }
}

/// The header of a safetensors file of so many bytes, and where its numbers begin. `read` fills a buffer from a place of the file.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read_header(
    bytes: u64,
    read: impl Fn(&mut [u8], u64) -> io::Result<()>,
) -> Result<(Metadata, u64), String> {
    let mut length = [0; LENGTH_BYTES as usize];
    read(&mut length, 0).map_err(|e| e.to_string())?;
    let length = u64::from_le_bytes(length);
    if length > LARGEST_HEADER_BYTES {
        return Err("its header has no sensible length".to_owned());
    }
    let mut header = vec![0; length as usize];
    read(&mut header, LENGTH_BYTES).map_err(|e| e.to_string())?;
    let header: Metadata = serde_json::from_slice(&header).map_err(|e| e.to_string())?;
    let data = LENGTH_BYTES + length;
    if data + header.data_len() as u64 != bytes {
        return Err("it is longer or shorter than its header says".to_owned());
    }
    Ok((header, data))
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
