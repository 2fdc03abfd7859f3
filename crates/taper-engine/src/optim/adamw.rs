use candle_core::{DType, Tensor};
use taper_autodiff::{Backend, Gradients, backend::Optimized};
use taper_core::Training;
use taper_kernels::Update;

use crate::{Error, Result, parameters::Parameters};

/// Those of PyTorch and of `TrainingArguments`.
const CONSTANTS: taper_kernels::AdamW = taper_kernels::AdamW {
    beta1: 0.9,
    beta2: 0.999,
    eps: 1e-8,
};

/// AdamW with decoupled weight decay (Loshchilov and Hutter 2019) in PyTorch's order of operations.
/// The moments lie on the backend's device, in the parameters' order.
pub(crate) struct AdamW {
    first: Vec<Tensor>,
    second: Vec<Tensor>,
    weight_decay: f64,
}

/// The update of one parameter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) learning_rate: f64,
    /// Counted from 1 for each parameter.
    pub(crate) number: u64,
}

impl AdamW {
    pub(crate) fn new(parameters: &Parameters, training: &Training) -> Result<Self> {
        let zeros = || -> Result<Vec<Tensor>> {
            let zeros = parameters.list.iter().map(|p| {
                let (shape, device) = (p.tensor.shape(), p.tensor.device());
                Ok(Tensor::zeros(shape, DType::F32, device)?)
            });
            zeros.collect()
        };
        Ok(Self {
            first: zeros()?,
            second: zeros()?,
            weight_decay: training.weight_decay,
        })
    }

    /// Changes the parameters by their gradients times `gradient_factor`, and uses the gradients up; `changes` has the rate of each and
    /// the number of its update, or nothing for one that stays as it is.
    pub(crate) fn update(
        &mut self,
        backend: &dyn Backend,
        parameters: &Parameters,
        gradients: &mut Gradients,
        changes: &[Option<Change>],
        gradient_factor: f32,
    ) -> Result<()> {
        for (id, (parameter, change)) in parameters.list.iter().zip(changes).enumerate() {
            let Some(change) = change else { continue };
            let update = Update {
                learning_rate: change.learning_rate,
                weight_decay: if parameter.kind.decays() {
                    self.weight_decay
                } else {
                    0.0
                },
                step: change.number,
                gradient_scale: f64::from(gradient_factor),
            };
            let optimized = Optimized {
                value: &parameter.tensor,
                gradient: &gradients.take(backend, id)?,
                m: &self.first[id],
                v: &self.second[id],
            };
            backend.adamw(optimized, CONSTANTS, update)?;
        }
        Ok(())
    }

    /// The moments by name, for a checkpoint.
    pub(crate) fn tensors(&self, parameters: &Parameters) -> Vec<(String, Tensor)> {
        let mut tensors = Vec::new();
        for (id, parameter) in parameters.list.iter().enumerate() {
            for (prefix, moments) in [("first", &self.first[id]), ("second", &self.second[id])] {
                tensors.push((format!("{prefix}.{}", parameter.name), moments.clone()));
            }
        }
        tensors
    }

    /// Takes the moments of a checkpoint back.
    ///
    /// # Errors
    /// When `read` has no tensor of a name or one of another size.
    pub(crate) fn restore(
        &mut self,
        parameters: &Parameters,
        read: impl Fn(&str) -> Result<Tensor>,
    ) -> Result<()> {
        for (id, parameter) in parameters.list.iter().enumerate() {
            for (prefix, moments) in [("first", &self.first[id]), ("second", &self.second[id])] {
                let values: Vec<f32> = read(&format!("{prefix}.{}", parameter.name))?
                    .flatten_all()?
                    .to_vec1()?;
                if values.len() != moments.elem_count() {
                    return Err(Error::Tensor(candle_core::Error::msg(format!(
                        "moments of {} have another size",
                        parameter.name
                    ))));
                }
                taper_autodiff::assign(moments, values)?;
            }
        }
        Ok(())
    }
}
