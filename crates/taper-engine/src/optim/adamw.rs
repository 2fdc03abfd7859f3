use candle_core::{Device, Tensor};
use taper_core::Training;
use taper_kernels::{Parameter, Update};

use crate::{
    Error, Result,
    param::{Gradients, Parameters, update},
};

/// Those of PyTorch and of `TrainingArguments`.
const CONSTANTS: taper_kernels::AdamW = taper_kernels::AdamW {
    beta1: 0.9,
    beta2: 0.999,
    eps: 1e-8,
};

/// AdamW with decoupled weight decay (Loshchilov and Hutter 2019) in PyTorch's order of operations.
/// The moments lie on the host, one buffer a parameter, in the parameters' order.
pub(crate) struct AdamW {
    first: Vec<Vec<f32>>,
    second: Vec<Vec<f32>>,
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
    pub(crate) fn new(parameters: &Parameters, training: &Training) -> Self {
        let zeros = || {
            parameters
                .list
                .iter()
                .map(|p| vec![0.0; p.var.elem_count()])
                .collect()
        };
        Self {
            first: zeros(),
            second: zeros(),
            weight_decay: training.weight_decay,
        }
    }

    /// Changes the parameters by their gradients times `gradient_factor`; `changes` has the rate of each and the number of its update,
    /// or nothing for one that stays as it is.
    pub(crate) fn update(
        &mut self,
        parameters: &Parameters,
        gradients: &Gradients,
        changes: &[Option<Change>],
        gradient_factor: f32,
    ) -> Result<()> {
        for (id, (parameter, change)) in parameters.list.iter().zip(changes).enumerate() {
            let Some(change) = change else { continue };
            let change = Update {
                learning_rate: change.learning_rate,
                weight_decay: if parameter.decays {
                    self.weight_decay
                } else {
                    0.0
                },
                step: change.number,
                gradient_scale: f64::from(gradient_factor),
            };
            let (m, v) = (&mut self.first[id], &mut self.second[id]);
            update(&parameter.var, |value| {
                let parameter = Parameter {
                    value,
                    gradient: gradients.get(id),
                    m,
                    v,
                };
                CONSTANTS.update(parameter, change);
            })?;
        }
        Ok(())
    }

    /// The moments by name, for a checkpoint.
    pub(crate) fn tensors(&self, parameters: &Parameters) -> Result<Vec<(String, Tensor)>> {
        let mut tensors = Vec::new();
        for (id, parameter) in parameters.list.iter().enumerate() {
            for (prefix, moments) in [("first", &self.first[id]), ("second", &self.second[id])] {
                let tensor = Tensor::from_slice(moments, parameter.var.shape(), &Device::Cpu)?;
                tensors.push((format!("{prefix}.{}", parameter.name), tensor));
            }
        }
        Ok(tensors)
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
            for (prefix, moments) in [
                ("first", &mut self.first[id]),
                ("second", &mut self.second[id]),
            ] {
                let values: Vec<f32> = read(&format!("{prefix}.{}", parameter.name))?
                    .flatten_all()?
                    .to_vec1()?;
                if values.len() != moments.len() {
                    return Err(Error::Tensor(candle_core::Error::msg(format!(
                        "moments of {} have another size",
                        parameter.name
                    ))));
                }
                *moments = values;
            }
        }
        Ok(())
    }
}
