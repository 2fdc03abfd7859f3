//! Golden files made by transformers and PEFT (`tests/peers/make_golden.py`).

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use taper_autodiff::Backend;
use taper_core::{Full, Lora, Method, TargetModules};

use super::{backends, golden, golden_batch, gradients_of, relative_difference};
use crate::{
    adapter::read_adapter,
    model_folder::{ModelFolder, Weights},
    models::{Head, Model, Pass},
    tape::Tape,
};

/// Opens the golden model, which has no tokenizer beside it.
fn folder() -> ModelFolder {
    ModelFolder::without_tokenizer(&golden()).unwrap()
}

fn expected(name: &str) -> Vec<f32> {
    let weights = Weights::open(&golden().join("expected.safetensors")).unwrap();
    weights
        .get(name, &Device::Cpu)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

fn logits(model: &Model, backend: &Arc<dyn Backend>) -> Vec<f32> {
    let tape = Tape::idle(backend.clone());
    let logits = model
        .classify(
            &Pass {
                tape: &tape,
                rng: None,
            },
            &golden_batch(),
        )
        .unwrap();
    logits.tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn check(model: &Model, prefix: &str, gradient_name: impl Fn(&str) -> String) {
    for backend in &backends() {
        let difference = logits(model, backend)
            .iter()
            .zip(expected(&format!("{prefix}logits")))
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(
            difference < 1e-4,
            "{backend:?}: logits differ by {difference}"
        );
        let (loss, gradients) = gradients_of(model, &golden_batch(), backend, None).unwrap();
        assert!(
            (loss - f64::from(expected(&format!("{prefix}loss"))[0])).abs() < 1e-5,
            "{backend:?}: loss {loss}"
        );
        for (name, gradient) in gradients {
            let expected = expected(&gradient_name(&name));
            if name.ends_with("key.bias") {
                // Zero by mathematics: what both sides have is rounding.
                assert!(
                    gradient.iter().chain(&expected).all(|g| g.abs() < 1e-6),
                    "{backend:?}: {name}: {gradient:?}"
                );
                continue;
            }
            let difference = relative_difference(&gradient, &expected);
            assert!(
                difference < 1e-3,
                "{backend:?}: the gradient of {name} differs by {difference}"
            );
        }
    }
}

#[test]
fn logits_loss_and_every_gradient_equal_those_of_transformers() {
    let model = Model::load(
        &folder(),
        &Method::Full(Full {}),
        Head::Classes(3),
        &Device::Cpu,
        0,
    )
    .unwrap();
    assert_eq!(model.parameters.list.len(), 41);
    check(&model, "", |name| format!("grad.{name}"));
}

#[test]
fn an_adapter_of_peft_gives_its_logits_and_gradients() {
    let (method, tensors) = read_adapter(&golden().join("lora")).unwrap();
    assert!(matches!(&method, Method::Lora(lora) if (lora.r, lora.lora_alpha) == (4, 8.0)));
    let model = Model::load(&folder(), &method, Head::Classes(3), &Device::Cpu, 0).unwrap();
    assert_eq!(tensors.len(), model.parameters.list.len());
    model.set(&tensors).unwrap();
    check(&model, "lora.", |name| {
        format!("lora.grad.base_model.model.{name}")
    });
}

#[test]
fn a_new_adapter_leaves_the_model_as_it_was() {
    let lora = Lora {
        target_modules: Some(TargetModules::Names(vec![
            "query".to_owned(),
            "dense".to_owned(),
        ])),
        ..Lora::default()
    };
    let base = Model::load(
        &folder(),
        &Method::Full(Full {}),
        Head::Classes(3),
        &Device::Cpu,
        0,
    )
    .unwrap();
    let adapted = Model::load(
        &folder(),
        &Method::Lora(lora),
        Head::Classes(3),
        &Device::Cpu,
        0,
    )
    .unwrap();
    let [cpu, _] = backends();
    assert_eq!(logits(&base, &cpu), logits(&adapted, &cpu));
    // query, attention.output.dense, intermediate.dense and output.dense of two layers, the pooler, and the classifier.
    assert_eq!(adapted.parameters.list.len(), 2 * (2 * 4 + 1) + 2);
}

/// The forward pass against candle-transformers' BERT, which cannot be trained but computes the same.
#[test]
fn the_forward_pass_equals_that_of_candle_transformers() {
    use candle_transformers::models::bert::{BertModel, Config};
    let text = std::fs::read_to_string(golden().join("config.json")).unwrap();
    let config: Config = serde_json::from_str(&text).unwrap();
    let tensors =
        candle_core::safetensors::load(golden().join("model.safetensors"), &Device::Cpu).unwrap();
    let model = BertModel::load(
        VarBuilder::from_tensors(tensors.clone(), DType::F32, &Device::Cpu).pp("bert"),
        &config,
    )
    .unwrap();
    let batch = golden_batch();
    let ours = logits(
        &Model::load(
            &folder(),
            &Method::Full(Full {}),
            Head::Classes(3),
            &Device::Cpu,
            0,
        )
        .unwrap(),
        &backends()[0],
    );
    for (sequence, range) in batch.offsets.windows(2).enumerate() {
        let ids = Tensor::new(&batch.ids[range[0]..range[1]], &Device::Cpu)
            .unwrap()
            .unsqueeze(0)
            .unwrap();
        let hidden = model
            .forward(&ids, &ids.zeros_like().unwrap(), None)
            .unwrap();
        let apply = |x: &Tensor, name: &str| {
            let weight = tensors[&format!("{name}.weight")].t().unwrap();
            x.matmul(&weight)
                .unwrap()
                .broadcast_add(&tensors[&format!("{name}.bias")])
                .unwrap()
        };
        let first = hidden.narrow(1, 0, 1).unwrap().squeeze(1).unwrap();
        let theirs = apply(
            &apply(&first, "bert.pooler.dense").tanh().unwrap(),
            "classifier",
        );
        let theirs = theirs.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (a, b) in ours[sequence * 3..].iter().zip(theirs) {
            assert!((a - b).abs() < 1e-4, "sequence {sequence}: {a} and {b}");
        }
    }
}
