use std::borrow::Cow;

use candle_core::Tensor;
use safetensors::{Dtype, View};
use taper_core::Training;
use taper_kernels::{Parameter, Update};

use crate::{
    Error, Result,
    param::{Gradients, update},
    parameters::Parameters,
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

/// Moments where they lie: a checkpoint of a large model must not double them.
pub(crate) struct Moments<'a> {
    shape: Vec<usize>,
    values: &'a [f32],
}

impl View for &Moments<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = vec![0; self.data_len()];
        for (bytes, value) in bytes.as_chunks_mut().0.iter_mut().zip(self.values) {
            *bytes = value.to_le_bytes();
        }
        bytes.into()
    }

    fn data_len(&self) -> usize {
        size_of_val(self.values)
    }
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

    /// Changes the parameters by their gradients times `gradient_factor`, and uses the gradients up; `changes` has the rate of each and the number of its update,
    /// or nothing for one that stays as it is.
    pub(crate) fn update(
        &mut self,
        parameters: &Parameters,
        gradients: &mut Gradients,
        changes: &[Option<Change>],
        gradient_factor: f32,
    ) -> Result<()> {
        for (id, (parameter, change)) in parameters.list.iter().zip(changes).enumerate() {
            let Some(change) = change else { continue };
            let change = Update {
                learning_rate: change.learning_rate,
                weight_decay: if parameter.kind.decays() {
                    self.weight_decay
                } else {
                    0.0
                },
                step: change.number,
                gradient_scale: f64::from(gradient_factor),
            };
            let (m, v, gradient) = (
                &mut self.first[id],
                &mut self.second[id],
                gradients.take(id),
            );
            update(&parameter.var, |value| {
                let parameter = Parameter {
                    value,
                    gradient: &gradient,
                    m,
                    v,
                };
                CONSTANTS.update(parameter, change);
            })?;
        }
        Ok(())
    }

    /// The moments by name, for a checkpoint.
    pub(crate) fn tensors(&self, parameters: &Parameters) -> Vec<(String, Moments<'_>)> {
        let mut tensors = Vec::new();
        for (id, parameter) in parameters.list.iter().enumerate() {
            for (prefix, moments) in [("first", &self.first[id]), ("second", &self.second[id])] {
                let (shape, values) = (parameter.var.dims().to_vec(), moments.as_slice());
                let name = format!("{prefix}.{}", parameter.name);
                tensors.push((name, Moments { shape, values }));
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
