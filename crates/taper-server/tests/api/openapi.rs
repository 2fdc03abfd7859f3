use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

/// The committed description is what the page's types are made from.
#[test]
fn the_committed_description_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openapi/openapi.json");
    let current = taper_server::openapi().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &current).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == current,
        "openapi/openapi.json is stale; write it again with: cargo run --release -- openapi > openapi/openapi.json"
    );
}

#[test]
fn the_description_hangs_together() {
    let api = serde_json::to_value(taper_server::openapi()).unwrap();
    let mut named = BTreeSet::new();
    references(&api, &mut named);
    for name in named {
        assert!(api["components"]["schemas"][&name].is_object(), "{name}");
    }
    let mut ids = BTreeSet::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        assert!(!path.contains('*'), "{path}");
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id.to_owned()), "{id} names two operations");
            assert!(operation["summary"].is_string(), "{method} {path}");
            assert!(
                operation["responses"]["default"].is_object(),
                "{method} {path}"
            );
        }
    }
    let mut linked = BTreeSet::new();
    for operation in api["paths"].as_object().unwrap().values() {
        for answers in operation.as_object().unwrap().values() {
            let links = answers["responses"]["200"]["links"].as_object();
            let targets = links.into_iter().flat_map(serde_json::Map::keys);
            linked.extend(targets.cloned());
        }
    }
    assert!(linked.len() >= 15 && linked.is_subset(&ids), "{linked:?}");
    let job = &api["components"]["schemas"]["FineTuningJob"];
    let (fields, required) = (&job["properties"], job["required"].as_array().unwrap());
    assert_eq!(fields.as_object().unwrap().len(), required.len());
    let create = &api["components"]["schemas"]["CreateTraining"];
    assert_eq!(create.get("required"), None);
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            if let Some(Value::String(place)) = object.get("$ref") {
                found.insert(place.rsplit('/').next().unwrap().to_owned());
            }
            object.values().for_each(|value| references(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}
