use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use taper_core::{Lora, Method};

use crate::{
    Error, Result,
    checkpoint::Weights,
    methods::matches_target,
    ops::{Adapter, LayerNorm, Linear},
    param::{Param, Parameters, ZeroGradient},
    random::Stream,
};

/// Hands out a model's weights: read from a checkpoint or made anew, frozen or trained as the tuning method says, with adapters
/// beside the layers that the method names. Names are those of transformers' classification model.
pub(crate) struct Loader<'a> {
    weights: &'a Weights,
    shapes: BTreeMap<String, Vec<usize>>,
    method: &'a Method,
    device: &'a Device,
    seed: u64,
    /// The trained parameters, in the order in which the model asked for them.
    pub(crate) parameters: Parameters,
    /// Frozen weights by name, for an export of the whole model.
    pub(crate) frozen: Vec<(String, Tensor)>,
    /// Base modules that are trained although the method freezes the base: their weights go into the adapter (PEFT's `modules_to_save`).
    pub(crate) modules_to_save: Vec<String>,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(
        weights: &'a Weights,
        method: &'a Method,
        device: &'a Device,
        seed: u64,
    ) -> Result<Self> {
        let shapes = weights.shapes()?;
        let (parameters, frozen, modules_to_save) = Default::default();
        Ok(Self {
            weights,
            shapes,
            method,
            device,
            seed,
            parameters,
            frozen,
            modules_to_save,
        })
    }

    /// The name under which the checkpoint has a weight: with or without the model's prefix, in today's or the oldest spelling.
    fn find(&self, name: &str) -> Option<String> {
        let bare = name.split_once('.').map_or(name, |(_, rest)| rest);
        let old = |name: &str| {
            name.replace("LayerNorm.weight", "LayerNorm.gamma")
                .replace("LayerNorm.bias", "LayerNorm.beta")
        };
        [name.to_owned(), bare.to_owned(), old(name), old(bare)]
            .into_iter()
            .find(|n| self.shapes.contains_key(n))
    }

    /// A weight of the base model.
    ///
    /// # Errors
    /// When the checkpoint does not have it in this shape.
    pub(crate) fn weight(&mut self, name: &str, shape: &[usize]) -> Result<Param> {
        let stored = self
            .find(name)
            .ok_or_else(|| Error::model(format!("model.safetensors has no tensor {name}")))?;
        if self.shapes[&stored] != shape {
            let found = &self.shapes[&stored];
            return Err(Error::model(format!(
                "the tensor {stored} has shape {found:?}, but config.json says {shape:?}"
            )));
        }
        let tensor = self.weights.get(&stored, self.device)?;
        match self.method {
            Method::Full => self.parameters.add(name, tensor),
            Method::Lora(_) => {
                self.frozen.push((name.to_owned(), tensor.clone()));
                Ok(Param::frozen(tensor))
            }
        }
    }

    pub(crate) fn layer_norm(&mut self, path: &str, width: usize, eps: f32) -> Result<LayerNorm> {
        let gamma = self.weight(&format!("{path}.weight"), &[width])?;
        let beta = self.weight(&format!("{path}.bias"), &[width])?;
        Ok(LayerNorm { gamma, beta, eps })
    }

    /// A linear layer of the base model, with an adapter if the method wants one here.
    pub(crate) fn linear(&mut self, path: &str, inputs: usize, outputs: usize) -> Result<Linear> {
        let weight = self.weight(&format!("{path}.weight"), &[outputs, inputs])?;
        let bias = self.weight(&format!("{path}.bias"), &[outputs])?;
        let adapter = match self.method {
            Method::Lora(lora) if matches_target(lora, path) => {
                Some(self.adapter(lora, path, inputs, outputs)?)
            }
            Method::Lora(_) | Method::Full => None,
        };
        Ok(Linear {
            weight,
            bias,
            adapter,
        })
    }

    /// PEFT's initial state: A evenly over ±1/√in (Kaiming with a = √5), B zero, so that training starts from the base model.
    fn adapter(
        &mut self,
        lora: &Lora,
        path: &str,
        inputs: usize,
        outputs: usize,
    ) -> Result<Adapter> {
        let name = format!("{path}.lora_A.weight");
        let values =
            Stream::new(self.seed, &name).uniform(lora.r * inputs, 1.0 / (inputs as f64).sqrt());
        let a = self.parameters.add(
            &name,
            Tensor::from_vec(values, (lora.r, inputs), self.device)?,
        )?;
        self.parameters
            .expect_zero(&a, ZeroGradient::BeforeFirstUpdate);
        let zeros = Tensor::zeros((outputs, lora.r), candle_core::DType::F32, self.device)?;
        let b = self
            .parameters
            .add(&format!("{path}.lora_B.weight"), zeros)?;
        Ok(Adapter {
            a,
            b,
            scale: (lora.lora_alpha / lora.r as f64) as f32,
            dropout: lora.lora_dropout as f32,
        })
    }

    /// A layer that is trained whatever the method: taken from the checkpoint if it is there in this shape, else made anew by seed
    /// (normal with `std`, bias zero).
    pub(crate) fn trained_linear(
        &mut self,
        path: &str,
        inputs: usize,
        outputs: usize,
        std: f64,
    ) -> Result<Linear> {
        let weight = format!("{path}.weight");
        let fresh = Stream::new(self.seed, &weight).normal(inputs * outputs, std);
        let weight = self.trained(&weight, &[outputs, inputs], fresh)?;
        let bias = self.trained(&format!("{path}.bias"), &[outputs], vec![0.0; outputs])?;
        Ok(Linear {
            weight,
            bias,
            adapter: None,
        })
    }

    fn trained(&mut self, name: &str, shape: &[usize], fresh: Vec<f32>) -> Result<Param> {
        let tensor = match self
            .find(name)
            .filter(|stored| self.shapes[stored] == shape)
        {
            Some(stored) => self.weights.get(&stored, self.device)?,
            None => Tensor::from_vec(fresh, shape, self.device)?,
        };
        self.parameters.add(name, tensor)
    }

    /// Tells whether the checkpoint has a weight.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }
}
