//! What runs of one model and one data set have in common lies in memory once.

use std::{collections::BTreeMap, sync::Arc, thread};

use candle_core::{CpuStorage, Storage, Tensor};
use serde_json::{Value, json};
use taper_core::{Control, RunSpec, Trainer as _};

use super::{
    Fixture, Recorder,
    training::{files, train},
};
use crate::{
    Engine,
    cache::Cache,
    models::Model,
    prepare::{Models, Prepared},
};

fn body(tuning: Value) -> Value {
    json!({"tuning": tuning, "training": {"max_steps": 12, "per_device_train_batch_size": 3}})
}

/// Where the values of a tensor lie.
fn place(tensor: &Tensor) -> usize {
    let (storage, _) = tensor.storage_and_layout();
    let Storage::Cpu(CpuStorage::F32(values)) = &*storage else {
        panic!("the fixture has only f32 on the CPU")
    };
    values.as_ptr() as usize
}

fn frozen(model: &Model) -> BTreeMap<String, usize> {
    let places = model.frozen.iter();
    places
        .map(|(name, tensor)| (name.clone(), place(tensor)))
        .collect()
}

#[test]
fn the_frozen_base_is_in_memory_once_and_goes_with_the_last_run() {
    let fixture = Fixture::new(0.0);
    let (models, control) = (Models::new(), Control::new());
    let opened = models.open(&fixture.model_dir(), &control).unwrap();
    let run = |name, tuning| fixture.run(name, 20, body(tuning));
    let runs = [
        run("lora", json!({"type": "lora"})),
        run(
            "wide",
            json!({"type": "lora", "r": 2, "target_modules": ["dense"]}),
        ),
        run("prompt", json!({"type": "prompt_tuning"})),
        run("layers", json!({"type": "layerwise", "freeze_below": 2})),
    ];
    let load = |run: &RunSpec| {
        let data = Prepared::of(&opened, &Cache::new(2), run, &control).unwrap();
        let device = candle_core::Device::Cpu;
        data.model(run, &device, &control).unwrap()
    };
    let models: Vec<Model> = runs.iter().map(load).collect();
    let base = frozen(&models[0]);
    assert!(base.len() > 20, "{base:?}");
    for model in &models {
        let held = frozen(model);
        assert!(!held.is_empty());
        for (name, place) in held {
            assert_eq!(base.get(&name), Some(&place), "{name}");
        }
    }
    let full = load(&run("full", json!({"type": "full"})));
    assert!(
        full.frozen.is_empty(),
        "what is trained is no part of the base"
    );
    let held = Arc::downgrade(&opened.folder.base.hold());
    assert!(held.upgrade().is_some());
    drop(models);
    assert!(held.upgrade().is_none(), "nobody needs it any more");
}

#[test]
fn runs_beside_each_other_make_what_each_makes_alone() {
    let fixture = Fixture::new(0.1);
    let tunings = [
        json!({"type": "lora"}),
        json!({"type": "full"}),
        json!({"type": "prompt_tuning"}),
    ];
    let alone: Vec<RunSpec> = tunings
        .iter()
        .enumerate()
        .map(|(n, tuning)| fixture.run(&format!("alone-{n}"), 20, body(tuning.clone())))
        .collect();
    alone.iter().for_each(|run| drop(train(run)));
    let engine = Engine::new();
    let together: Vec<RunSpec> = tunings
        .iter()
        .enumerate()
        .map(|(n, tuning)| fixture.run(&format!("together-{n}"), 20, body(tuning.clone())))
        .collect();
    thread::scope(|scope| {
        for run in &together {
            let engine = &engine;
            scope.spawn(move || {
                engine
                    .train(run, &mut Recorder::default(), &Control::new())
                    .unwrap()
            });
        }
    });
    let weights = |run: &RunSpec| {
        let mut files = files(&run.output_dir());
        files.retain(|name, _| name.ends_with(".safetensors"));
        files
    };
    for (alone, together) in alone.iter().zip(&together) {
        assert_eq!(weights(alone), weights(together), "{}", together.job_id);
    }
}
