//! What a submission tells of parameters without loading the model.

use serde_json::json;

use super::Fixture;

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

#[test]
fn rates_that_train_nothing_are_refused() {
    let fixture = Fixture::new(0.0);
    let body = |rates| json!({"tuning": {"type": "layerwise", "learning_rates": rates}});
    let nothing = body(json!({".*": 0.0}));
    let error = fixture.try_run("bad", 10, nothing).unwrap_err().to_string();
    assert!(error.contains("nothing would be trained"), "{error}");
    fixture.run("good", 10, body(json!({"bert.*": 0.0})));
}
