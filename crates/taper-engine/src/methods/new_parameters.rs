use candle_core::{DType, Device, Tensor};
use taper_autodiff::{Param, outline};

use crate::{
    Result,
    model_folder::ModelFolder,
    parameters::{Group, Kind, Parameters},
};

/// Where a method makes the parameters that it adds to a model.
pub(crate) struct NewParameters<'a> {
    pub(crate) folder: &'a ModelFolder,
    pub(crate) device: &'a Device,
    pub(crate) seed: u64,
    /// Tensors get shapes and no memory.
    pub(crate) outlines: bool,
    pub(crate) parameters: &'a mut Parameters,
}

impl NewParameters<'_> {
    /// A trained parameter of this shape, with the values that `make` gives.
    pub(crate) fn add(
        &mut self,
        name: &str,
        (kind, group): (Kind, Group),
        shape: &[usize],
        make: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Param> {
        let start = match self.outlines {
            true => outline(shape, DType::F32)?,
            false => make()?,
        };
        self.parameters.add(name, kind, group, start)
    }
}
