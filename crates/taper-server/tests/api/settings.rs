//! What tells clients of methods and settings: the route, and the schemas of requests.

use serde_json::{Value, json};
use taper_core::Role;

use crate::{
    app::{JOBS, ROWS, TestApp},
    client::Client,
};

const SETTINGS: &str = "/v1/fine_tuning/settings";

#[tokio::test]
async fn methods_settings_and_tasks_are_told() {
    let app = TestApp::start().await;
    let reader = Client::new(&app, Role::Read, "a").await;
    assert_eq!(app.get(SETTINGS).await.error().await.0, 401);
    let settings = reader.get(SETTINGS).await;
    assert_eq!(settings["object"], "fine_tuning.settings");
    let methods = settings["methods"].as_array().unwrap();
    let results: Vec<_> = methods
        .iter()
        .map(|it| (&it["name"], &it["result"]))
        .collect();
    assert_eq!(results[0], (&json!("lora"), &json!("adapter")));
    assert!(results.contains(&(&json!("layerwise"), &json!("model"))));
    let lora = &methods[0];
    assert_eq!(
        lora["default_learning_rate"],
        json!({"SEQ_CLS": 1e-3, "CAUSAL_LM": 2e-4})
    );
    let rank = json!({"name": "r", "type": "integer", "default": 8, "minimum": 1, "maximum": 4096, "exclusive_minimum": null,
        "exclusive_maximum": null, "values": null, "description": "Rank of the adapters.", "common": true});
    assert_eq!(lora["fields"][0], rank);
    let field = |list: &Value, name: &str| -> Value {
        let mut fields = list.as_array().unwrap().iter();
        fields.find(|field| field["name"] == name).unwrap().clone()
    };
    let prompt = methods.iter().find(|it| it["name"] == "prompt_tuning");
    let init = field(&prompt.unwrap()["fields"], "prompt_tuning_init");
    assert_eq!(init["values"], json!(["RANDOM", "TEXT", "SAMPLE_VOCAB"]));
    let split = field(&settings["training"], "eval_split");
    assert_eq!(
        (&split["exclusive_minimum"], &split["exclusive_maximum"]),
        (&json!(0.0), &json!(1.0))
    );
    assert_eq!(split["default"], Value::Null);
    let tasks = settings["tasks"].as_array().unwrap();
    assert_eq!(tasks[0]["name"], "SEQ_CLS");
    assert_eq!(tasks[1]["figures"][1], "valid_perplexity");
}

/// A form that is made of the answer is a body that the server takes.
#[tokio::test]
async fn a_job_with_the_defaults_that_are_told_is_taken() {
    let app = TestApp::start().await;
    let answer = app.get(SETTINGS).await.json().await;
    let defaults = |fields: &Value| -> serde_json::Map<String, Value> {
        let pair = |field: &Value| {
            let name = field["name"].as_str().unwrap();
            (name.to_owned(), field["default"].clone())
        };
        fields.as_array().unwrap().iter().map(pair).collect()
    };
    let file = app.upload(ROWS).await;
    for method in answer["methods"].as_array().unwrap() {
        let mut tuning = defaults(&method["fields"]);
        tuning.insert("type".to_owned(), method["name"].clone());
        let body = json!({"model": "tiny", "training_file": file, "tuning": tuning, "training": defaults(&answer["training"])});
        let job = app.post_json(JOBS, body.to_string()).await.json().await;
        assert_eq!(job["tuning"]["type"], method["name"], "{job}");
    }
}

#[test]
fn a_request_may_leave_out_every_setting() {
    let api = serde_json::to_value(taper_server::openapi()).unwrap();
    let schemas = &api["components"]["schemas"];
    let methods = schemas["CreateTuning"]["oneOf"].as_array().unwrap();
    assert_eq!(methods.len(), taper_core::Method::all().len());
    for method in methods {
        let place = method["$ref"].as_str().unwrap();
        let schema = &schemas[place.rsplit('/').next().unwrap()];
        assert_eq!(schema["required"], json!(["type"]), "{place}");
    }
    let rank = &schemas["CreateTuningLora"]["properties"]["r"];
    assert_eq!(
        (&rank["minimum"], &rank["maximum"]),
        (&json!(1), &json!(4096))
    );
    let openai = &schemas["OpenAiMethod"]["properties"];
    let names = taper_core::Method::all();
    assert!(names.iter().all(|method| openai[method.name()].is_object()));
}
