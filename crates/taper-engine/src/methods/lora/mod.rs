//! LoRA: trained pairs beside frozen linear layers.

mod export;
mod readers;
mod targets;

use candle_core::Tensor;
use taper_core::{FieldError, Lora, TargetModules, TaskType, Warning};

use super::{AdapterFormat, NewParameters, Rate, Tuner};
use crate::{
    Result,
    families::Arch,
    ops::Adapter,
    parameters::{Group, Kind, Trainable, ZeroGradient},
    random::Stream,
};
use targets::AdapterShape;

pub(super) use targets::LoraTuner;

const A: Group = Group::Adapter("lora_A");
const B: Group = Group::Adapter("lora_B");

impl Tuner for LoraTuner<'_> {
    fn trains(&self, name: &str, _: Kind, _: Group) -> Result<bool> {
        let module = name.rsplit_once('.');
        Ok(module.is_some_and(|(module, _)| self.saves(module)))
    }

    fn rate(&self, parameter: &Trainable) -> Result<Rate> {
        let ratio = self.lora.loraplus_lr_ratio.unwrap_or(1.0);
        Ok(Rate::Share(match parameter.group {
            B => ratio,
            _ => 1.0,
        }))
    }

    /// PEFT's initial state: A evenly over ±1/√in (Kaiming with a = √5), B zero, so that training starts from the base model.
    fn adapter(
        &self,
        new: &mut NewParameters<'_>,
        path: &str,
        (inputs, outputs): (usize, usize),
    ) -> Result<Option<Adapter>> {
        let Some(AdapterShape { r, scale, .. }) = self.shape(path) else {
            return Ok(None);
        };
        let (seed, device) = (new.seed, new.device);
        let name = format!("{path}.lora_A.weight");
        let a = new.add(&name, (Kind::Weight, A), &[r, inputs], || {
            let bound = 1.0 / (inputs as f64).sqrt();
            let values = Stream::new(seed, &name).uniform(r * inputs, bound);
            Ok(Tensor::from_vec(values, (r, inputs), device)?)
        })?;
        new.parameters
            .expect_zero(&a, ZeroGradient::BeforeFirstUpdate);
        let name = format!("{path}.lora_B.weight");
        let b = new.add(&name, (Kind::Weight, B), &[outputs, r], || {
            let zeros = vec![0.0_f32; outputs * r];
            Ok(Tensor::from_vec(zeros, (outputs, r), device)?)
        })?;
        Ok(Some(Adapter {
            a,
            b,
            scale: scale as f32,
            dropout: self.lora.lora_dropout as f32,
        }))
    }

    fn check(&self, arch: &Arch) -> Result<()> {
        let (linears, modules) = arch.paths();
        let defaults = TargetModules::Names(arch.default_target_modules());
        let resolved = Lora {
            target_modules: self.lora.target_modules.clone().or(Some(defaults)),
            ..self.lora.clone()
        };
        let unmatched = LoraTuner::new(&resolved)?.unmatched(&linears, &modules);
        if let Some((param, name)) = unmatched.first() {
            if arch.is_tied(name) {
                let message = format!(
                    "'{param}': {name} cannot be taken, since this model's embedding table and its lm_head are tied: one table serves as both, and an adapter or a copy of one would leave the other behind; leave it out"
                );
                return Err(FieldError::invalid(*param, message).into());
            }
            let known: Vec<&str> = linears.iter().take(8).map(String::as_str).collect();
            let message = format!(
                "'{param}': {name} names no layer of the model that can be taken; it has {}, …",
                known.join(", ")
            );
            return Err(FieldError::invalid(*param, message).into());
        }
        let ranks = self.lora.rank_pattern.values().copied();
        let widest = ranks.fold(self.lora.r, usize::max);
        if widest > arch.hidden_size() {
            let message = format!(
                "the rank {widest} is beyond the model's width of {}; choose a smaller one",
                arch.hidden_size()
            );
            return Err(FieldError::invalid("tuning.r", message).into());
        }
        Ok(())
    }

    fn reader_limits(&self, task: TaskType, adapted: &[String]) -> Vec<Warning> {
        readers::limits(self, task, adapted)
    }

    fn card(&self) -> &'static str {
        "A LoRA adapter for"
    }

    fn adapter_format(&self) -> Option<&dyn AdapterFormat> {
        Some(self)
    }
}
