//! Every family, task and method against golden files made by transformers and PEFT (`tests/golden/README.md`).

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use candle_core::{Device, Tensor};
use serde_json::Value;
use taper_autodiff::Backend;
use taper_core::{Full, Lora, Method, TargetModules, TaskType};

use super::{backends, gradients_of, relative_difference};
use crate::{
    adapter::read_adapter,
    data::{Batch, Encoded, Targets},
    families::{Description, Family},
    model_folder::{ModelFolder, Weights},
    models::{Head, Model, Pass},
    tape::Tape,
    tasks::task,
};

pub(super) fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

/// One golden case: a family's model under one task and method.
struct Case {
    dir: PathBuf,
    task: TaskType,
    method: String,
    expected: Weights,
}

impl Case {
    fn new(family: &str, task: TaskType, method: &str) -> Self {
        let dir = golden().join("families").join(family);
        let expected = Weights::open(&dir.join("expected.safetensors")).unwrap();
        Self {
            dir,
            task,
            method: method.to_owned(),
            expected,
        }
    }

    fn prefix(&self) -> String {
        format!("{}.{}", self.task.as_str().to_lowercase(), self.method)
    }

    fn expected(&self, name: &str) -> Vec<f32> {
        let tensor = self
            .expected
            .get(&format!("{}.{name}", self.prefix()), &Device::Cpu)
            .unwrap();
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    /// The model with the weights that the golden files were made with, and the names that files have for its parameters.
    fn model(&self) -> Model {
        let folder = ModelFolder::without_tokenizer(&self.dir).unwrap();
        let load = |method: &Method| {
            Model::load(&folder, method, task(self.task).head(3), &Device::Cpu, 0).unwrap()
        };
        if self.method == "full" {
            let model = load(&Method::Full(Full {}));
            let head = self.dir.join("head.safetensors");
            if self.task == TaskType::SeqCls && head.is_file() {
                let weights = Weights::open(&head).unwrap();
                let heads = weights
                    .names()
                    .map(|name| (name.to_owned(), weights.get(name, &Device::Cpu).unwrap()));
                let heads: Vec<(String, Tensor)> = heads.collect();
                let mut all = model.parameters.tensors();
                all.retain(|(name, _)| heads.iter().all(|(head, _)| head != name));
                all.extend(heads);
                // A copy, since a parameter must not be written from itself.
                let all: Vec<_> = all
                    .into_iter()
                    .map(|(name, tensor)| (name, tensor.copy().unwrap()))
                    .collect();
                model.set(&all).unwrap();
            }
            return model;
        }
        let (method, tensors) = read_adapter(&self.adapter()).unwrap();
        let model = load(&method);
        let names = |list: Vec<(String, Tensor)>| {
            let mut names: Vec<String> = list.into_iter().map(|(name, _)| name).collect();
            names.sort();
            names
        };
        assert_eq!(
            names(model.parameters.tensors()),
            names(tensors.clone()),
            "{}: names in the adapter",
            self.prefix()
        );
        model.set(&tensors).unwrap();
        model
    }

    fn adapter(&self) -> PathBuf {
        self.dir.join(self.prefix().replace('.', "-"))
    }

    fn batch(&self) -> Batch {
        let inputs: Value =
            serde_json::from_str(&fs::read_to_string(self.dir.join("inputs.json")).unwrap())
                .unwrap();
        let ids: Vec<Vec<u32>> = serde_json::from_value(inputs["input_ids"].clone()).unwrap();
        let targets = match self.task {
            TaskType::SeqCls => {
                Targets::Classes(serde_json::from_value(inputs["labels"].clone()).unwrap())
            }
            TaskType::CausalLm => {
                let masks: Vec<Vec<u8>> =
                    serde_json::from_value(inputs["loss_mask"].clone()).unwrap();
                Targets::Tokens(
                    masks
                        .into_iter()
                        .map(|mask| mask.into_iter().map(|m| m == 1).collect())
                        .collect(),
                )
            }
        };
        let rows: Vec<usize> = (0..ids.len()).collect();
        let data = Encoded {
            lines: vec![0; ids.len()],
            ids,
            targets,
            truncated: 0,
            virtual_tokens: usize::from(self.method.starts_with("prompt")),
        };
        Batch::of(&data, &rows)
    }

    /// The file's name of a parameter.
    fn stored(&self, name: &str) -> String {
        match self.method.as_str() {
            "full" => name.to_owned(),
            "prompt" if name == "prompt_embeddings" => name.to_owned(),
            "prompt" => format!("base_model.{name}"),
            _ => format!("base_model.model.{name}"),
        }
    }

    fn check(&self) {
        let (model, batch) = (self.model(), self.batch());
        for backend in &backends() {
            let label = format!(
                "{} {} {backend:?}",
                self.dir.file_name().unwrap().to_string_lossy(),
                self.prefix()
            );
            self.check_logits(&model, &batch, backend, &label);
            let (loss, gradients) = gradients_of(&model, &batch, backend, None).unwrap();
            assert!(
                (loss - f64::from(self.expected("loss")[0])).abs() < 2e-5,
                "{label}: loss {loss}, expected {:?}",
                self.expected("loss")
            );
            for (name, found) in gradients {
                let expected = self.expected(&format!("grad.{}", self.stored(&name)));
                let zero = ["key.bias", "k_lin.bias"]
                    .iter()
                    .any(|end| name.ends_with(end));
                let difference = relative_difference(&found, &expected);
                // Zero by mathematics: what both sides have is rounding.
                let close = if zero {
                    found.iter().chain(&expected).all(|g| g.abs() < 1e-5)
                } else {
                    difference < 1e-3
                };
                assert!(
                    close,
                    "{label}: the gradient of {name} differs by {difference}"
                );
            }
        }
    }

    fn check_logits(&self, model: &Model, batch: &Batch, backend: &Arc<dyn Backend>, label: &str) {
        let tape = Tape::idle(backend.clone());
        let pass = Pass {
            tape: &tape,
            rng: None,
        };
        let found: Vec<f32> = match self.task {
            TaskType::SeqCls => model
                .classify(&pass, batch)
                .unwrap()
                .tensor
                .flatten_all()
                .unwrap()
                .to_vec1()
                .unwrap(),
            TaskType::CausalLm => model
                .all_logits(&pass, batch)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1()
                .unwrap(),
        };
        let expected = self.expected("logits");
        assert_eq!(found.len(), expected.len(), "{label}");
        let difference = found
            .iter()
            .zip(&expected)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(difference < 1e-4, "{label}: logits differ by {difference}");
    }
}

/// Whatever a family says of itself, under a task.
fn every_method(kind: TaskType, of: impl Fn(&Description) -> bool) {
    for family in Family::ALL.iter().map(|family| family.describe()) {
        assert!(!family.golden.is_empty(), "{}", family.model_type);
        let suits = task(kind).suits(family) && of(family);
        for golden in family.golden.iter().filter(|_| suits) {
            for method in ["full", "lora", "prompt"] {
                Case::new(golden, kind, method).check();
            }
        }
    }
}

fn is_decoder(family: &Description) -> bool {
    family.causal_lm_class.is_some()
}

#[test]
fn encoders_equal_transformers_and_peft() {
    every_method(TaskType::SeqCls, |family| !is_decoder(family));
}

#[test]
fn decoders_as_classifiers_equal_transformers_and_peft() {
    every_method(TaskType::SeqCls, is_decoder);
}

#[test]
fn causal_language_models_equal_transformers_and_peft() {
    every_method(TaskType::CausalLm, is_decoder);
}

#[test]
fn every_kind_of_lora_target_is_read_as_peft_reads_it() {
    for method in ["lora-all-linear", "lora-layers", "lora-regex"] {
        Case::new("llama", TaskType::CausalLm, method).check();
    }
    Case::new("gpt2", TaskType::CausalLm, "lora-all-linear").check();
}

#[test]
fn shards_half_precision_and_bare_names_are_read() {
    let dir = golden().join("formats");
    let expected = Weights::open(&dir.join("expected.safetensors")).unwrap();
    let inputs: Value =
        serde_json::from_str(&fs::read_to_string(dir.join("inputs.json")).unwrap()).unwrap();
    let ids: Vec<Vec<u32>> = serde_json::from_value(inputs["input_ids"].clone()).unwrap();
    let batch = Batch::of_ids(ids.iter().map(Vec::as_slice));
    // A frozen base keeps the file's number format, one that is trained does not; new adapters change nothing.
    let frozen = Method::Lora(Lora {
        target_modules: Some(TargetModules::Names(
            ["q_proj", "c_attn"].map(str::to_owned).to_vec(),
        )),
        ..Lora::default()
    });
    let forms = ["sharded", "bf16", "f16", "gpt2-bare"];
    for (form, method) in forms
        .map(|form| (form, &Method::Full(Full {})))
        .into_iter()
        .chain(forms.map(|form| (form, &frozen)))
    {
        let folder = ModelFolder::without_tokenizer(&dir.join(form)).unwrap();
        let model = Model::load(&folder, method, Head::Vocabulary, &Device::Cpu, 0).unwrap();
        let tape = Tape::idle(model.backend.clone());
        let found = model
            .all_logits(
                &Pass {
                    tape: &tape,
                    rng: None,
                },
                &batch,
            )
            .unwrap();
        let found: Vec<f32> = found.flatten_all().unwrap().to_vec1().unwrap();
        let expected: Vec<f32> = expected
            .get(&format!("{form}.logits"), &Device::Cpu)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        let difference = found
            .iter()
            .zip(&expected)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(difference < 1e-4, "{form}: logits differ by {difference}");
    }
}
