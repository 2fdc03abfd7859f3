use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use taper_autodiff::{Backend, backend_of};
use taper_core::Method;

use super::{Decoder, Encoder, Loader, Pass};
use crate::{
    Error, Result,
    data::Batch,
    families::Arch,
    model_folder::{Frozen, ModelFolder, Weights},
    ops::{self, TokenLoss},
    parameters::Parameters,
    tape::Value,
};

/// A model made ready for tuning.
pub(crate) struct Model {
    pub(super) network: Network,
    /// What training changes.
    pub(crate) parameters: Parameters,
    /// The other weights, by name.
    pub(crate) frozen: Vec<(String, Tensor)>,
    /// Keeps them for the models that are loaded while this one is there.
    _base: Option<Arc<Frozen>>,
    /// Trained modules beside the classifier that an adapter has to bring along.
    pub(crate) modules_to_save: Vec<String>,
    /// Linear layers that have an adapter.
    pub(crate) adapted: Vec<String>,
    pub(crate) device: Device,
    /// What computes on it.
    pub(crate) backend: Arc<dyn Backend>,
}

pub(super) enum Network {
    Encoder(Encoder),
    Decoder(Decoder),
}

/// What a model has above its layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// A classifier that tells so many classes apart.
    Classes(usize),
    /// A table of the vocabulary.
    Vocabulary,
}

impl Model {
    /// Loads the weights and puts in what the method adds; new weights are made by `seed`.
    pub(crate) fn load(
        folder: &ModelFolder,
        method: &Method,
        head: Head,
        device: &Device,
        seed: u64,
    ) -> Result<Self> {
        let weights = folder.weights()?;
        let loader = Loader::new(folder, &weights, method, device, seed)?;
        Self::build(folder, loader, head)
    }

    /// The model without memory for its weights, from their names and shapes: it can pass over tapes that count, and over no others.
    pub(crate) fn outline(
        folder: &ModelFolder,
        weights: &Weights,
        method: &Method,
        head: Head,
    ) -> Result<Self> {
        let loader = Loader::new(folder, weights, method, &Device::Cpu, 0)?;
        Self::build(folder, loader.outlining(), head)
    }

    fn build(folder: &ModelFolder, mut loader: Loader<'_>, head: Head) -> Result<Self> {
        let device = loader.device.clone();
        let network = match &folder.arch {
            Arch::Encoder(config) => Network::Encoder(Encoder::load(config, &mut loader, head)?),
            Arch::Decoder(config) => Network::Decoder(Decoder::load(config, &mut loader, head)?),
        };
        let Loader {
            base,
            parameters,
            frozen,
            modules_to_save,
            adapted,
            ..
        } = loader;
        Ok(Self {
            network,
            parameters,
            // One that has none of them must not keep what others have done with.
            _base: (!frozen.is_empty()).then_some(base),
            frozen,
            modules_to_save,
            adapted,
            backend: backend_of(&device),
            device,
        })
    }

    /// Logits of every sequence, `[sequences, classes]`.
    pub(crate) fn classify(&self, pass: &Pass<'_>, batch: &Batch) -> Result<Value> {
        match &self.network {
            Network::Encoder(encoder) => encoder.classify(pass, batch),
            Network::Decoder(decoder) => decoder.classify(pass, batch),
        }
    }

    /// The loss of the batch's target tokens, each given those before it; `mean_over` is the number of targets of the whole optimizer step.
    pub(crate) fn next_token_loss(
        &self,
        pass: &Pass<'_>,
        batch: &Batch,
        mean_over: usize,
    ) -> Result<TokenLoss> {
        let decoder = self.decoder()?;
        let targets = &batch.targets;
        let (states, table) = decoder.states(pass, batch, |batch| batch.before(&targets.tokens))?;
        let (tape, ids) = (pass.tape, &targets.ids);
        Ok(ops::lm_loss(tape, &states, table, ids, mean_over)?)
    }

    pub(super) fn decoder(&self) -> Result<&Decoder> {
        match &self.network {
            Network::Decoder(decoder) => Ok(decoder),
            Network::Encoder(_) => Err(Error::model("an encoder does not continue texts")),
        }
    }

    /// Logits over the vocabulary for every token of the batch, `[tokens, vocabulary]`.
    #[cfg(test)]
    pub(crate) fn all_logits(&self, pass: &Pass<'_>, batch: &Batch) -> Result<Tensor> {
        // A token's own row is the one before the token behind it.
        let tokens: Vec<u32> = (0..batch.tokens() as u32).collect();
        let own = |batch: &Batch| {
            batch
                .before(&tokens)
                .into_iter()
                .map(|row| row.wrapping_add(1))
                .collect()
        };
        let (states, table) = self.decoder()?.states(pass, batch, own)?;
        Ok(ops::lm_logits(pass.tape, &states, table)?)
    }

    /// Gives every trained parameter the value of the tensor of its name.
    ///
    /// # Errors
    /// A parameter without a tensor, or with one of another size.
    pub(crate) fn set(&self, tensors: &[(String, Tensor)]) -> Result<()> {
        for parameter in &self.parameters.list {
            let refuse = |reason: &str| Error::model(format!("{} {reason}", parameter.name));
            let found = tensors.iter().find(|(name, _)| *name == parameter.name);
            let values: Vec<f32> = found
                .ok_or_else(|| refuse("is missing"))?
                .1
                .flatten_all()?
                .to_vec1()?;
            if values.len() != parameter.tensor.elem_count() {
                return Err(refuse("has another size"));
            }
            taper_autodiff::assign(&parameter.tensor, values)?;
        }
        Ok(())
    }

    /// Number of values of the whole model, adapters included.
    pub(crate) fn total_parameters(&self) -> u64 {
        let frozen = self
            .frozen
            .iter()
            .map(|(_, tensor)| tensor.elem_count() as u64);
        self.parameters.count() + frozen.sum::<u64>()
    }

    /// Bytes of the whole model in memory, adapters included.
    pub(crate) fn weight_bytes(&self) -> u64 {
        let bytes = |tensor: &Tensor| (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64;
        let frozen = self.frozen.iter().map(|(_, tensor)| bytes(tensor));
        self.parameters.count() * DType::F32.size_in_bytes() as u64 + frozen.sum::<u64>()
    }
}
