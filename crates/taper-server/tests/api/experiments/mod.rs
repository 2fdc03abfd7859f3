//! Experiments: the comparison, successive halving, and what is done to the whole.

mod comparing;
mod halving;
mod whole;

use std::time::Duration;

use serde_json::{Value, json};
use taper_store::Scope;

use crate::app::{ROWS, TestApp, text};

const EXPERIMENTS: &str = "/v1/experiments";

/// The body of an experiment on fresh data.
async fn body(app: &TestApp, more: Value) -> Value {
    let mut body = json!({"model": "tiny", "training_file": app.upload(ROWS).await, "validation_file": app.upload(ROWS).await});
    let fields = more.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(fields);
    body
}

async fn create(app: &TestApp, more: Value) -> Value {
    let body = body(app, more).await.to_string();
    app.post_json(EXPERIMENTS, body).await.json().await
}

async fn find(app: &TestApp, id: &str) -> Value {
    app.get(&format!("{EXPERIMENTS}/{id}")).await.json().await
}

/// Waits until an experiment is as wanted.
async fn reach(app: &TestApp, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        let mut events = app.store.subscribe(&Scope::All);
        loop {
            let experiment = find(app, id).await;
            if wanted(&experiment) {
                return experiment;
            }
            // One that lags behind only has to look again.
            drop(events.recv().await);
        }
    });
    waited.await.unwrap()
}

fn has_ended(experiment: &Value) -> bool {
    ["succeeded", "failed", "cancelled"].contains(&experiment["status"].as_str().unwrap())
}

async fn end(app: &TestApp, more: Value) -> Value {
    let id = text(&create(app, more).await["id"]);
    reach(app, &id, has_ended).await
}

fn column(experiment: &Value, name: &str) -> Vec<Value> {
    let rows = experiment["table"].as_array().unwrap();
    rows.iter().map(|row| row[name].clone()).collect()
}
