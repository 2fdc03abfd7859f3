use candle_core::{Device, Tensor};
use taper_core::Method;

use super::{Encoder, Loader, Pass};
use crate::{
    Result,
    checkpoint::{Arch, ModelFolder},
    data::Batch,
    param::Parameters,
    tape::Value,
};

/// A model made ready for tuning.
pub(crate) struct Model {
    network: Network,
    /// What training changes.
    pub(crate) parameters: Parameters,
    /// The other weights, by name.
    pub(crate) frozen: Vec<(String, Tensor)>,
    /// Trained modules beside the classifier that an adapter has to bring along.
    pub(crate) modules_to_save: Vec<String>,
    pub(crate) device: Device,
}

enum Network {
    Encoder(Encoder),
}

impl Model {
    /// Loads the weights and puts in what the method adds; new weights are made by `seed`.
    pub(crate) fn load(
        folder: &ModelFolder,
        method: &Method,
        classes: usize,
        device: &Device,
        seed: u64,
    ) -> Result<Self> {
        let weights = folder.weights()?;
        let mut loader = Loader::new(&weights, method, device, seed)?;
        let network = match &folder.arch {
            Arch::Bert(config) => Network::Encoder(Encoder::load(config, &mut loader, classes)?),
        };
        let Loader {
            parameters,
            frozen,
            modules_to_save,
            ..
        } = loader;
        Ok(Self {
            network,
            parameters,
            frozen,
            modules_to_save,
            device: device.clone(),
        })
    }

    /// Logits of every sequence, `[sequences, classes]`.
    pub(crate) fn logits(&self, pass: &Pass<'_>, batch: &Batch) -> Result<Value> {
        match &self.network {
            Network::Encoder(encoder) => encoder.forward(pass, batch),
        }
    }

    /// Number of values of the whole model, adapters included.
    pub(crate) fn total_parameters(&self) -> u64 {
        self.parameters.count()
            + self
                .frozen
                .iter()
                .map(|(_, tensor)| tensor.elem_count() as u64)
                .sum::<u64>()
    }
}

/// Checks what a look at the configuration can tell about a method's settings.
///
/// # Errors
/// A target that names no layer, a rank beyond the model's width.
pub(crate) fn check_method(arch: &Arch, method: &Method) -> Result<()> {
    let Method::Lora(lora) = method else {
        return Ok(());
    };
    let Arch::Bert(config) = arch;
    let paths = Encoder::linear_paths(config);
    let unmatched = crate::methods::unmatched_targets(lora, &paths);
    if !unmatched.is_empty() {
        let message = format!(
            "no layer of the model is called {}; there are {}",
            unmatched.join(" or "),
            Encoder::PATHS_IN_LAYER.join(", ")
        );
        return Err(taper_core::FieldError::invalid("tuning.target_modules", message).into());
    }
    if lora.r > config.hidden_size {
        let message = format!(
            "'tuning.r' is {}, but the model is only {} wide; choose a smaller rank",
            lora.r, config.hidden_size
        );
        return Err(taper_core::FieldError::invalid("tuning.r", message).into());
    }
    Ok(())
}
