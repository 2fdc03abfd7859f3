//! The tuning methods, a file each: which weights of the base are trained and at which rate, what is put beside them in the forward
//! pass, and how the result is kept. The operations that a method adds to the forward pass stand with the others, in [`crate::ops`].

mod full;
mod layerwise;
mod lora;
mod new_parameters;
mod peft;
mod prompt_tuning;
mod rates;

use taper_autodiff::Param;
use taper_core::{Method, TaskType, Warning};

use crate::{
    Result,
    families::Arch,
    ops::Adapter,
    parameters::{Group, Kind, Trainable},
};

pub(crate) use new_parameters::NewParameters;
pub(crate) use peft::{AdapterFormat, Exported};
use rates::Rate;
pub(crate) use rates::Rates;

/// A method made ready for a model: what it does to each of its weights.
pub(crate) trait Tuner {
    /// Whether a weight of the base model is trained; `name` is that of transformers.
    ///
    /// # Errors
    /// Settings that contradict each other for this weight.
    fn trains(&self, name: &str, kind: Kind, group: Group) -> Result<bool>;

    /// The rate of a trained parameter, before the schedule.
    ///
    /// # Errors
    /// As [`Tuner::trains`].
    fn rate(&self, _: &Trainable) -> Result<Rate> {
        Ok(Rate::Share(1.0))
    }

    /// The step from which a parameter of this group is trained.
    fn starts_at(&self, _: Group) -> u64 {
        0
    }

    /// Forward hook: makes what stands beside the linear layer at a path, from as many inputs to as many outputs.
    fn adapter(
        &self,
        _: &mut NewParameters<'_>,
        _path: &str,
        _shape: (usize, usize),
    ) -> Result<Option<Adapter>> {
        Ok(None)
    }

    /// Forward hook: makes the vectors that stand in front of every sequence, `[tokens, hidden]`; `tokens` is the embedding table.
    fn virtual_tokens(&self, _: &mut NewParameters<'_>, _tokens: &Param) -> Result<Option<Param>> {
        Ok(None)
    }

    /// # Errors
    /// Settings that do not go with this model, as far as its configuration tells.
    fn check(&self, _: &Arch) -> Result<()> {
        Ok(())
    }

    /// `parameters` gives all of the model's, as full tuning trains them.
    ///
    /// # Errors
    /// Settings that do not go with these parameters.
    fn check_parameters(&self, _parameters: &dyn Fn() -> Result<Vec<Trainable>>) -> Result<()> {
        Ok(())
    }

    /// What readers of the result other than PEFT and transformers are known not to take; `adapted` are the layers that get an adapter.
    fn reader_limits(&self, _: TaskType, _adapted: &[String]) -> Vec<Warning> {
        Vec::new()
    }

    /// What the result is, in front of the base model's name.
    fn card(&self) -> &'static str {
        "A fine-tuned copy of"
    }

    /// How the result is kept where it is an adapter.
    fn adapter_format(&self) -> Option<&dyn AdapterFormat> {
        None
    }
}

/// The method made ready for a model of so many layers. Here methods are told apart, and nowhere else.
///
/// # Errors
/// A setting that is no regular expression though it has to be one.
pub(crate) fn tuner(method: &Method, layers: usize) -> Result<Box<dyn Tuner + '_>> {
    Ok(match method {
        Method::Full(_) => Box::new(full::FullTuner),
        Method::Layerwise(layerwise) => {
            Box::new(layerwise::LayerwiseTuner::new(layerwise, layers)?)
        }
        Method::Lora(lora) => Box::new(lora::LoraTuner::new(lora)?),
        Method::PromptTuning(prompt) => Box::new(prompt_tuning::PromptTuner::new(prompt)),
    })
}

/// The number of the layer in a path, as PEFT finds it: the first part that is a number.
fn layer_of(path: &str) -> Option<usize> {
    path.split('.').find_map(|part| part.parse().ok())
}
