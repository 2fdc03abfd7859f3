//! What can be told of a model without loading it, against the loaded model.

use std::path::Path;

use candle_core::Device;
use serde_json::json;
use taper_core::{Method, TaskType};

use super::Fixture;
use crate::{
    checkpoint::ModelFolder,
    models::{Model, parameter_names},
};

#[test]
fn the_names_of_parameters_are_known_before_the_weights_are_read() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    let families = std::fs::read_dir(golden.join("families")).unwrap();
    let mut dirs: Vec<_> = families.map(|entry| entry.unwrap().path()).collect();
    dirs.push(golden.join("formats/gpt2-bare"));
    assert!(dirs.len() > 12);
    for dir in dirs {
        let folder = ModelFolder::without_tokenizer(&dir).unwrap();
        let tasks = [TaskType::SeqCls, TaskType::CausalLm];
        for task in tasks.into_iter().filter(|task| folder.arch.can(*task)) {
            let model = Model::load(&folder, &Method::Full, task, 3, &Device::Cpu, 0).unwrap();
            let mut loaded: Vec<String> =
                model.parameters.list.into_iter().map(|p| p.name).collect();
            loaded.sort();
            let told = parameter_names(&folder.arch, &folder.weights().unwrap(), task);
            assert_eq!(told, loaded, "{} {}", dir.display(), task.as_str());
        }
    }
}

#[test]
fn a_rate_for_no_parameter_is_refused_with_its_key() {
    let fixture = Fixture::new(0.0);
    let body = |key: &str| json!({"tuning": {"type": "layerwise", "learning_rates": {key: 1e-4}}});
    let good = r"bert\.encoder\.layer\.1\..*";
    fixture.run("good", 10, body(good));
    for key in [
        "encoder.layer.1",
        r"bert\.encoder\.layer\.2\..*",
        "score.weight",
    ] {
        let error = fixture
            .try_run("bad", 10, body(key))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&format!(
                "'tuning.learning_rates': '{key}' matches no parameter"
            )),
            "{error}"
        );
        assert!(error.contains("such as classifier.weight"), "{error}");
    }
}
