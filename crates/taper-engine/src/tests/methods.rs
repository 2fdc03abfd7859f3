//! What every tuning method has to keep to.

use serde_json::json;
use taper_core::{Control, Method, Produces, Trainer as _};

use super::{
    Fixture,
    training::{files, train},
};
use crate::Engine;

/// The run itself reads its files back and compares what they say with the trained model.
#[test]
fn every_method_trains_and_leaves_what_it_says_it_does() {
    let fixture = Fixture::new(0.1);
    for method in Method::all() {
        let name = method.name();
        let body = json!({"tuning": {"type": name}, "training": {"max_steps": 4, "per_device_train_batch_size": 4}});
        let run = fixture.run(name, 40, body);
        let plan = Engine::new().check(&run, &Control::new()).unwrap();
        train(&run);
        let (folder, weights) = match method.descriptor().produces {
            Produces::Adapter => ("adapter", "adapter_model.safetensors"),
            Produces::Model => ("model", "model.safetensors"),
        };
        let files = files(&run.output_dir());
        let weights = &files[&format!("{folder}/{weights}")];
        assert!(plan.disk.artifacts >= weights.len() as u64, "{name}");
        let card = String::from_utf8_lossy(&files[&format!("{folder}/README.md")]);
        assert!(card.contains(&format!("- {name}\n")), "{name}");
    }
}
