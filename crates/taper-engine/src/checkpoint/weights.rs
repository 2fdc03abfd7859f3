use std::{collections::BTreeMap, fs::File, path::Path};

use candle_core::{DType, Device, Tensor};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};

use crate::{Error, Result, error::Doing};

/// Beyond this a header is not one of a model's.
const LARGEST_HEADER_BYTES: u64 = 16 << 20;

/// The tensors of a safetensors file, read on demand.
pub(crate) struct Weights {
    map: Mmap,
    path: String,
}

impl Weights {
    /// Opens a file and checks its header.
    ///
    /// # Errors
    /// A file that is no safetensors file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let file = File::open(path).doing(|| format!("cannot open {name}"))?;
        // SAFETY: the file lies in a folder that only the administrator, or taper itself, writes to; a file that is cut
        // while it is mapped would end the process, and is excluded by replacing files through rename only.
        #[expect(
            unsafe_code,
            reason = "mapping a file is the one way not to hold large weights twice"
        )]
        let map = unsafe { Mmap::map(&file) }.doing(|| format!("cannot map {name}"))?;
        let header = map
            .first_chunk::<8>()
            .map(|bytes| u64::from_le_bytes(*bytes));
        if header.is_none_or(|bytes| bytes > LARGEST_HEADER_BYTES) {
            return Err(Error::model(format!("{name} is not a safetensors file")));
        }
        let weights = Self { map, path: name };
        weights.tensors()?;
        Ok(weights)
    }

    fn tensors(&self) -> Result<SafeTensors<'_>> {
        SafeTensors::deserialize(&self.map)
            .map_err(|e| Error::model(format!("{} is not a safetensors file: {e}", self.path)))
    }

    /// Shapes of all tensors by name.
    pub(crate) fn shapes(&self) -> Result<BTreeMap<String, Vec<usize>>> {
        Ok(self
            .tensors()?
            .iter()
            .map(|(name, view)| (name.to_owned(), view.shape().to_vec()))
            .collect())
    }

    /// A tensor as f32 on `device`.
    ///
    /// # Errors
    /// A name that is not in the file, a number format that is not a float.
    pub(crate) fn get(&self, name: &str, device: &Device) -> Result<Tensor> {
        let tensors = self.tensors()?;
        let view = tensors
            .tensor(name)
            .map_err(|_| Error::model(format!("{} has no tensor {name}", self.path)))?;
        let dtype = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            other => {
                return Err(Error::model(format!(
                    "{}: the tensor {name} is {other:?}; supported: F32, F16, BF16",
                    self.path
                )));
            }
        };
        Ok(
            Tensor::from_raw_buffer(view.data(), dtype, view.shape(), device)?
                .to_dtype(DType::F32)?,
        )
    }
}

/// Writes tensors as a safetensors file with the metadata that PEFT and transformers write, and brings it to the disk.
pub(crate) fn write_safetensors(path: &Path, tensors: &[(String, Tensor)]) -> Result<()> {
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    safetensors::serialize_to_file(
        tensors.iter().map(|(name, tensor)| (name, tensor)),
        Some(metadata),
        path,
    )?;
    File::open(path)
        .and_then(|file| file.sync_all())
        .doing(|| format!("cannot write {}", path.display()))
}
