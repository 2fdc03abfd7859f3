//! The CPU's backend against the reference, with every kind of randomness on, and against finite differences.

use candle_core::{Device, Tensor};
use taper_core::{Full, Layerwise, Lora, Method, TargetModules};

use super::{Fixture, backends, classified, gradients_of, relative_difference};
use crate::{
    data::Batch,
    model_folder::ModelFolder,
    models::{DropoutRng, Head, Model},
};

fn batch() -> Batch {
    let ids = vec![
        vec![2, 4, 8, 3],
        vec![2, 3],
        vec![2, 10, 8, 5, 9, 11, 7, 3],
        vec![6],
    ];
    let rows: Vec<usize> = (0..ids.len()).collect();
    Batch::of(&classified(ids, vec![1, 0, 2, 1]), &rows)
}

fn methods() -> [Method; 2] {
    let targets = ["query", "key", "value", "dense"]
        .map(str::to_owned)
        .to_vec();
    [
        Method::Full(Full {}),
        Method::Lora(Lora {
            r: 3,
            lora_dropout: 0.2,
            target_modules: Some(TargetModules::Names(targets)),
            ..Lora::default()
        }),
    ]
}

/// Adds `factor` times the direction to a parameter.
fn shift(parameter: &Tensor, direction: &[f32], factor: f32) {
    let values: Vec<f32> = parameter.flatten_all().unwrap().to_vec1().unwrap();
    let moved = values.iter().zip(direction).map(|(v, d)| v + factor * d);
    taper_autodiff::assign(parameter, moved.collect()).unwrap();
}

/// Moves every parameter off its start, so that LoRA's B is not zero.
fn stir(model: &Model) {
    for (id, parameter) in model.parameters.list.iter().enumerate() {
        let noise = crate::random::Stream::new(9, &format!("stir {id}"))
            .normal(parameter.tensor.elem_count(), 0.05);
        shift(&parameter.tensor, &noise, 1.0);
    }
}

fn model(fixture: &Fixture, method: &Method) -> Model {
    let folder = ModelFolder::open(&fixture.model_dir()).unwrap();
    let model = Model::load(&folder, method, Head::Classes(3), &Device::Cpu, 1).unwrap();
    stir(&model);
    model
}

#[test]
fn gradients_equal_the_references_with_dropout_on() {
    let fixture = Fixture::new(0.3);
    for method in methods() {
        let model = model(&fixture, &method);
        for pass in 0..3 {
            let rng = Some(DropoutRng { seed: 11, pass });
            let [(loss, found), (oracle_loss, expected)] =
                backends().map(|backend| gradients_of(&model, &batch(), &backend, rng).unwrap());
            assert!(
                (loss - oracle_loss).abs() < 1e-5,
                "loss {loss}, candle's {oracle_loss}"
            );
            for ((name, found), (_, expected)) in found.iter().zip(&expected) {
                let difference = relative_difference(found, expected);
                let zero = name.ends_with("key.bias");
                assert!(
                    difference < if zero { 1.0 } else { 1e-3 },
                    "{name} differs by {difference}"
                );
            }
        }
    }
}

#[test]
fn every_trained_parameter_gets_a_gradient() {
    let fixture = Fixture::new(0.1);
    for method in methods() {
        let model = model(&fixture, &method);
        let (_, gradients) = gradients_of(
            &model,
            &batch(),
            &model.backend,
            Some(DropoutRng { seed: 1, pass: 0 }),
        )
        .unwrap();
        assert_eq!(
            gradients.len(),
            if matches!(method, Method::Full(_)) {
                5 + 2 * 16 + 4
            } else {
                2 * (2 * 6 + 1) + 2
            }
        );
        for (name, gradient) in gradients {
            assert!(gradient.iter().all(|g| g.is_finite()), "{name}");
            assert!(
                name.contains("key.bias") || gradient.iter().any(|g| *g != 0.0),
                "{name} gets no gradient"
            );
        }
    }
}

/// A norm of which only one half is trained: the other must not take its gradient away.
#[test]
fn a_bias_alone_or_a_weight_alone_is_trained() {
    let fixture = Fixture::new(0.0);
    for frozen in [".*bias", ".*weight"] {
        let learning_rates = [(frozen.to_owned(), 0.0)].into();
        let method = Method::Layerwise(Layerwise {
            learning_rates,
            ..Layerwise::default()
        });
        let model = model(&fixture, &method);
        let [(_, found), (_, expected)] =
            backends().map(|backend| gradients_of(&model, &batch(), &backend, None).unwrap());
        for ((name, found), (_, expected)) in found.iter().zip(&expected) {
            let zero = name.ends_with("key.bias");
            assert!(
                zero || relative_difference(found, expected) < 1e-3,
                "{name} differs"
            );
            assert!(
                zero || found.iter().any(|g| *g != 0.0),
                "{name} gets no gradient"
            );
        }
    }
}

/// Central differences along a random direction over all parameters at once.
#[test]
fn gradients_predict_how_the_loss_moves() {
    let fixture = Fixture::new(0.2);
    for method in methods() {
        let model = model(&fixture, &method);
        let rng = Some(DropoutRng { seed: 2, pass: 7 });
        let (_, gradients) = gradients_of(&model, &batch(), &model.backend, rng).unwrap();
        let directions: Vec<Vec<f32>> = gradients
            .iter()
            .map(|(name, g)| crate::random::Stream::new(4, name).normal(g.len(), 1.0))
            .collect();
        let slope: f64 = gradients
            .iter()
            .zip(&directions)
            .flat_map(|((_, g), d)| g.iter().zip(d))
            .map(|(g, d)| f64::from(g * d))
            .sum();
        let step = 1e-3;
        let move_all = |factor: f32| {
            for (parameter, direction) in model.parameters.list.iter().zip(&directions) {
                shift(&parameter.tensor, direction, factor);
            }
        };
        let loss = || {
            gradients_of(&model, &batch(), &model.backend, rng)
                .unwrap()
                .0
        };
        move_all(step);
        let above = loss();
        move_all(-2.0 * step);
        let below = loss();
        let measured = (above - below) / (2.0 * f64::from(step));
        assert!(
            (measured - slope).abs() < 0.02 * slope.abs().max(0.1),
            "measured {measured}, predicted {slope}"
        );
    }
}
