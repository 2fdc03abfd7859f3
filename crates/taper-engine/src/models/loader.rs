use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use taper_autodiff::{Param, outline};
use taper_core::Method;
use taper_kernels::Layout;

use super::{LinearLayer, Part};
use crate::{
    Error, Result,
    families::{LinearRole, OUTPUT_TABLE},
    methods::{NewParameters, Tuner, tuner},
    model_folder::{Frozen, ModelFolder, Weights},
    ops::{Adapter, Linear, Norm},
    parameters::{Group, Kind, Parameters},
    random::Stream,
};

/// Hands out a model's weights: read from the model folder or newly initialised, frozen or trained as the tuning method says, with adapters
/// beside the layers that the method names. Names are those of transformers; the prefix of the base model (`bert.`, `model.`) may be
/// missing in the files.
pub(crate) struct Loader<'a> {
    folder: &'a ModelFolder,
    weights: &'a Weights,
    /// Where the frozen weights lie, for all models of the folder.
    pub(crate) base: Arc<Frozen>,
    tuner: Box<dyn Tuner + 'a>,
    pub(super) device: &'a Device,
    seed: u64,
    /// Tensors get shapes and no memory.
    outlines: bool,
    /// The part of the model that is being loaded.
    group: Group,
    /// The trained parameters, in the order in which the model asked for them.
    pub(crate) parameters: Parameters,
    /// Frozen weights by name, for an export of the whole model.
    pub(crate) frozen: Vec<(String, Tensor)>,
    /// Base modules that are trained although the method freezes the base: their weights go into the adapter (PEFT's `modules_to_save`).
    pub(crate) modules_to_save: Vec<String>,
    /// Modules that got an adapter.
    pub(crate) adapted: Vec<String>,
}

/// A linear layer as the model wants it.
#[derive(Clone, Copy)]
pub(crate) struct LinearShape {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) bias: bool,
    pub(crate) layout: Layout,
}

impl LinearShape {
    /// PyTorch's own: with a bias, weights `[out, in]`.
    pub(crate) fn new(inputs: usize, outputs: usize) -> Self {
        Self {
            inputs,
            outputs,
            bias: true,
            layout: Layout::OutIn,
        }
    }

    pub(crate) fn with_bias(self, bias: bool) -> Self {
        Self { bias, ..self }
    }

    fn weight(self) -> [usize; 2] {
        match self.layout {
            Layout::OutIn => [self.outputs, self.inputs],
            Layout::InOut => [self.inputs, self.outputs],
        }
    }
}

impl<'a> Loader<'a> {
    pub(crate) fn new(
        folder: &'a ModelFolder,
        weights: &'a Weights,
        method: &'a Method,
        device: &'a Device,
        seed: u64,
    ) -> Result<Self> {
        let (parameters, frozen, modules_to_save, adapted) = Default::default();
        Ok(Self {
            folder,
            weights,
            base: folder.base.hold(),
            tuner: tuner(method, folder.arch.layers())?,
            device,
            seed,
            outlines: false,
            group: Group::Embeddings,
            parameters,
            frozen,
            modules_to_save,
            adapted,
        })
    }

    /// This loader, but one whose models have no memory and are never run.
    pub(crate) fn outlining(self) -> Self {
        Self {
            outlines: true,
            ..self
        }
    }

    /// Begins with a part of the model: what is asked for from here on belongs to it.
    pub(super) fn enter(&mut self, group: Group) {
        self.group = group;
    }

    /// The part that is being loaded, for its dropout.
    pub(super) fn part(&self) -> Part {
        Part::of(self.group, self.folder.arch.layers())
    }

    /// A tensor of the checkpoint in this format, or only its outline.
    fn stored(&self, name: &str, shape: &[usize], format: DType) -> Result<Tensor> {
        if self.outlines {
            Ok(outline(shape, format)?)
        } else {
            self.weights.get_as(name, format, self.device)
        }
    }

    /// The format of a weight that products and look-ups read: on the CPU these widen shorter numbers as they go, which halves what a
    /// frozen base takes.
    fn compact(&self, name: &str) -> DType {
        let stored = self.weights.find(name).filter(|_| self.device.is_cpu());
        let short = stored.and_then(|stored| self.weights.short_format(&stored));
        short.unwrap_or(DType::F32)
    }

    /// A new tensor of the values that `make` gives.
    fn fresh(&self, shape: &[usize], make: impl FnOnce() -> Vec<f32>) -> Result<Tensor> {
        if self.outlines {
            Ok(outline(shape, DType::F32)?)
        } else {
            Ok(Tensor::from_vec(make(), shape, self.device)?)
        }
    }

    /// Tells whether the checkpoint has a weight.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.weights.find(name).is_some()
    }

    /// A table of the base model, of tokens or positions.
    pub(crate) fn embedding(&mut self, name: &str, shape: &[usize]) -> Result<Param> {
        let format = self.compact(name);
        self.base(name, Kind::Embedding, shape, format)
    }

    /// An embedding table that is the output table too, and may be stored as either.
    pub(crate) fn tied_embedding(&mut self, name: &str, shape: &[usize]) -> Result<Param> {
        match self.weights.find(OUTPUT_TABLE) {
            Some(stored) if !self.has(name) => {
                let format = self.compact(&stored);
                self.stored_base(stored, name, Kind::Embedding, shape, format)
            }
            _ => self.embedding(name, shape),
        }
    }

    /// The table that turns last hidden states into logits over the vocabulary.
    pub(crate) fn output_table(&mut self, name: &str, shape: &[usize]) -> Result<Param> {
        if !self.has(name) {
            return Err(Error::model(format!(
                "{}, and config.json does not say tie_word_embeddings; set it to true if the embedding table serves as output table, else export the model with its head",
                self.weights.lack(name)
            )));
        }
        let format = self.compact(name);
        self.base(name, Kind::Head, shape, format)
    }

    /// A weight of the base model, in the format `frozen` where it stays frozen.
    ///
    /// # Errors
    /// When the checkpoint does not have it in this shape.
    fn base(&mut self, name: &str, kind: Kind, shape: &[usize], frozen: DType) -> Result<Param> {
        let stored = self.weights.find(name);
        let stored = stored.ok_or_else(|| self.weights.lack(name))?;
        self.stored_base(stored, name, kind, shape, frozen)
    }

    /// As [`base`](Self::base), of a weight that the files have under the name `stored`.
    fn stored_base(
        &mut self,
        stored: String,
        name: &str,
        kind: Kind,
        shape: &[usize],
        frozen: DType,
    ) -> Result<Param> {
        let found = self.weights.shape(&stored).unwrap_or_default();
        if found != shape {
            return Err(Error::model(format!(
                "the tensor {stored} has shape {found:?}, but config.json says {shape:?}"
            )));
        }
        let group = self.group;
        if self.tuner.trains(name, kind, group)? {
            let tensor = self.stored(&stored, shape, DType::F32)?;
            return self.parameters.add(name, kind, group, tensor);
        }
        let tensor = if self.outlines {
            outline(shape, frozen)?
        } else {
            let read = || self.stored(&stored, shape, frozen);
            self.base.get_or_read(&stored, frozen, self.device, read)?
        };
        self.frozen.push((name.to_owned(), tensor.clone()));
        Ok(Param::frozen(tensor))
    }

    /// A normalisation with mean and bias.
    pub(crate) fn layer_norm(&mut self, path: &str, width: usize, eps: f32) -> Result<Norm> {
        let gamma = self.norm(&format!("{path}.weight"), width)?;
        let beta = Some(self.norm(&format!("{path}.bias"), width)?);
        Ok(Norm { gamma, beta, eps })
    }

    /// A normalisation by the root mean square.
    pub(crate) fn rms_norm(&mut self, path: &str, width: usize, eps: f32) -> Result<Norm> {
        let gamma = self.norm(&format!("{path}.weight"), width)?;
        Ok(Norm {
            gamma,
            beta: None,
            eps,
        })
    }

    fn norm(&mut self, name: &str, width: usize) -> Result<Param> {
        self.base(name, Kind::Norm, &[width], DType::F32)
    }

    /// A linear layer of the base model, with an adapter if the method wants one here.
    pub(super) fn linear(
        &mut self,
        path: &str,
        role: LinearRole,
        shape: LinearShape,
    ) -> Result<LinearLayer> {
        let name = format!("{path}.weight");
        let format = self.compact(&name);
        let weight = self.base(&name, Kind::Weight, &shape.weight(), format)?;
        let bias = if shape.bias {
            Some(self.base(
                &format!("{path}.bias"),
                Kind::Bias,
                &[shape.outputs],
                DType::F32,
            )?)
        } else {
            None
        };
        let adapter = self.adapter(path, shape)?;
        let linear = Linear {
            weight,
            layout: shape.layout,
            bias,
            adapter,
        };
        Ok(self.placed(linear, role))
    }

    fn placed(&self, linear: Linear, role: LinearRole) -> LinearLayer {
        LinearLayer {
            linear,
            part: self.part(),
            role,
        }
    }

    /// What the method puts beside a linear layer, if anything.
    fn adapter(&mut self, path: &str, shape: LinearShape) -> Result<Option<Adapter>> {
        let (tuner, mut new) = self.new_parameters();
        let adapter = tuner.adapter(&mut new, path, (shape.inputs, shape.outputs))?;
        if adapter.is_some() {
            self.adapted.push(path.to_owned());
        }
        Ok(adapter)
    }

    /// The method, and where it makes what it adds.
    fn new_parameters(&mut self) -> (&dyn Tuner, NewParameters<'_>) {
        let new = NewParameters {
            folder: self.folder,
            device: self.device,
            seed: self.seed,
            outlines: self.outlines,
            parameters: &mut self.parameters,
        };
        (&*self.tuner, new)
    }

    /// A layer that is trained whatever the method: taken from the checkpoint if it is there in this shape, else newly initialised by seed
    /// (normal with `std`, bias zero).
    pub(super) fn trained_linear(
        &mut self,
        path: &str,
        shape: LinearShape,
        std: f64,
    ) -> Result<LinearLayer> {
        let linear = self.read_or_made(path, shape, std, true)?;
        Ok(self.placed(linear, LinearRole::HeadHidden))
    }

    /// The last layer of a classifier: like [`Self::trained_linear`], but never one of other classes.
    pub(super) fn class_head(
        &mut self,
        path: &str,
        shape: LinearShape,
        std: f64,
    ) -> Result<LinearLayer> {
        let linear = self.read_or_made(path, shape, std, self.folder.keeps_head)?;
        Ok(self.placed(linear, LinearRole::HeadOutput))
    }

    /// Weights in the checkpoint are looked at only if it `may_be_read`.
    fn read_or_made(
        &mut self,
        path: &str,
        shape: LinearShape,
        std: f64,
        may_be_read: bool,
    ) -> Result<Linear> {
        let weight = format!("{path}.weight");
        let mut stream = Stream::new(self.seed, &weight);
        let weight = self.trained(&weight, Kind::Head, &shape.weight(), may_be_read, || {
            stream.normal(shape.inputs * shape.outputs, std)
        })?;
        let bias = format!("{path}.bias");
        let bias = if shape.bias {
            let zeros = || vec![0.0; shape.outputs];
            Some(self.trained(&bias, Kind::Bias, &[shape.outputs], may_be_read, zeros)?)
        } else {
            None
        };
        Ok(Linear {
            weight,
            layout: shape.layout,
            bias,
            adapter: None,
        })
    }

    /// A linear layer of the base that many checkpoints lack: frozen or adapted like the others where it is there, else newly
    /// initialised, trained, and saved under `module`, since transformers initialises it at every load.
    pub(super) fn optional_linear(
        &mut self,
        path: &str,
        shape: LinearShape,
        std: f64,
        module: &str,
    ) -> Result<LinearLayer> {
        if self.has(&format!("{path}.weight")) {
            return self.linear(path, LinearRole::HeadHidden, shape);
        }
        self.modules_to_save.push(module.to_owned());
        self.trained_linear(path, shape, std)
    }

    fn trained(
        &mut self,
        name: &str,
        kind: Kind,
        shape: &[usize],
        may_be_read: bool,
        fresh: impl FnOnce() -> Vec<f32>,
    ) -> Result<Param> {
        let fits = |stored: &String| may_be_read && self.weights.shape(stored) == Some(shape);
        let tensor = match self.weights.find(name).filter(fits) {
            Some(stored) => self.stored(&stored, shape, DType::F32)?,
            None => self.fresh(shape, fresh)?,
        };
        self.parameters.add(name, kind, self.group, tensor)
    }

    /// The vectors that the method puts in front of every sequence, if any; `tokens` is the embedding table.
    pub(crate) fn prompt(&mut self, tokens: &Param) -> Result<Option<Param>> {
        let (tuner, mut new) = self.new_parameters();
        tuner.virtual_tokens(&mut new, tokens)
    }
}
