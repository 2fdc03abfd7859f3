use axum::http::{Request, header};
use serde_json::{Value, json};

use super::{EXPERIMENTS, body, column, create, end, halving::twelve, has_ended, reach};
use crate::app::{JOBS, TestApp, text};

/// Every method with two seeds.
fn four_methods() -> Value {
    json!({"methods": "all", "seeds": [0, 1], "suffix": "cmp", "training": {"max_steps": 4}})
}

#[tokio::test]
async fn an_experiment_is_jobs_of_the_queue() {
    let app = TestApp::start().await;
    let made = create(&app, four_methods()).await;
    let id = text(&made["id"]);
    assert!(id.starts_with("exp-"));
    let progress = json!({"runs": 8, "ended": 0, "steps": 0, "total_steps": 0});
    let objective = json!({"metric": "valid_accuracy", "direction": "max"});
    for (field, value) in [
        ("object", json!("experiment")),
        ("status", json!("validating_files")),
        ("progress", progress),
        ("objective", objective),
        ("strategy", json!({"type": "all"})),
        ("budget", Value::Null),
        ("seeds", json!([0, 1])),
        ("recommendation", Value::Null),
    ] {
        assert_eq!(made[field], value, "{field}");
    }
    let ended = reach(&app, &id, has_ended).await;
    let jobs = ended["jobs"].as_array().unwrap();
    let path = format!("{JOBS}/{}", text(&jobs[5]));
    let job = app.get(&path).await.json().await;
    assert_eq!(
        (&job["experiment_id"], &job["configuration"], &job["seed"]),
        (&ended["id"], &json!(2), &json!(1))
    );
    assert!(text(&job["fine_tuned_model"]).starts_with("ft:tiny:default:cmp:"));
    let list = app.get(EXPERIMENTS).await.json().await;
    assert_eq!((&list["data"][0], &list["last_id"]), (&ended, &ended["id"]));
}

#[tokio::test]
async fn an_experiment_ends_with_a_table() {
    let app = TestApp::start().await;
    let ended = end(&app, four_methods()).await;
    assert_eq!(
        (&ended["status"], &ended["best"]),
        (&json!("succeeded"), &json!(2))
    );
    let progress = json!({"runs": 8, "ended": 8, "steps": 32, "total_steps": 32});
    assert_eq!(ended["progress"], progress);
    let labels = json!([
        "full",
        "layerwise",
        "LoRA r=8",
        "prompt tuning of 10 tokens"
    ]);
    assert_eq!(json!(column(&ended, "label")), labels);
    let row = &ended["table"][2];
    for (field, value) in [
        ("seeds", json!([0, 1])),
        ("status", json!("succeeded")),
        ("error", Value::Null),
        ("training", json!({"learning_rate": 1e-3})),
    ] {
        assert_eq!(row[field], value, "{field}");
    }
    assert_eq!(row["tuning"]["type"], "lora");
    assert!((row["metric"].as_f64().unwrap() - 0.755).abs() < 1e-9);
    let full = &ended["table"][0];
    let [low, high] = [0, 1].map(|bound| full["difference_ci95"][bound].as_f64().unwrap());
    let difference = full["difference"].as_f64().unwrap();
    assert!(
        low < difference && difference < high && high < 0.0,
        "{full}"
    );
    let sentence = text(&ended["recommendation"]);
    let begins = "LoRA r=8: the best valid_accuracy (75.5 %), next is layerwise, ";
    assert!(sentence.starts_with(begins), "{sentence}");
}

#[tokio::test]
async fn the_table_comes_in_three_forms() {
    let app = TestApp::start().await;
    let ended = end(
        &app,
        json!({"grid": {"training.learning_rate": [1e-4, 1e-3]}}),
    )
    .await;
    let path = format!("{EXPERIMENTS}/{}/table", text(&ended["id"]));
    let table = app.get(&path).await.json().await;
    assert_eq!(
        (&table["table"], &table["object"]),
        (&ended["table"], &json!("experiment.table"))
    );
    let csv = app.get(&format!("{path}?format=csv")).await;
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8");
    let csv = csv.text().await;
    assert_eq!(csv.lines().count(), 3);
    assert!(
        csv.contains("\n1,LoRA r=8 learning_rate=0.001,succeeded,"),
        "{csv}"
    );
    let markdown = app
        .get(&format!("{path}?format=markdown"))
        .await
        .text()
        .await;
    assert!(
        markdown.contains("| LoRA r=8 learning_rate=0.0001 | 65.0 % | -10.0 % | "),
        "{markdown}"
    );
    assert!(markdown.ends_with(&format!("{}\n", text(&ended["recommendation"]))));
    let (status, param, _) = app.get(&format!("{path}?format=pdf")).await.error().await;
    assert_eq!((status, param.as_str()), (400, "format"));
}

#[tokio::test]
async fn a_failing_run_stands_in_the_table_with_its_reason() {
    let app = TestApp::start().await;
    let ended = end(
        &app,
        json!({"grid": {"training.learning_rate": [1e-4, 1e-3, 9]}}),
    )
    .await;
    assert_eq!(
        (&ended["status"], &ended["best"]),
        (&json!("succeeded"), &json!(1))
    );
    let row = &ended["table"][2];
    assert_eq!(
        (&row["status"], &row["error"]["code"], &row["error"]["step"]),
        (&json!("failed"), &json!("non_finite"), &json!(3))
    );
    assert_eq!(
        (&row["metric"], &row["difference"]),
        (&Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn what_the_server_finds_wrong_has_the_field_of_the_body() {
    let app = TestApp::start().await;
    for (more, param, message) in [
        (
            json!({"methods": "all", "model": "none"}),
            "model",
            "does not exist",
        ),
        (
            json!({"methods": "all", "training_file": "file-none"}),
            "training_file",
            "does not exist",
        ),
        (
            json!({"grid": {"training.max_length": [8, 999]}}),
            "grid.training.max_length",
            "'grid.training.max_length' is 999",
        ),
        (
            json!({"methods": [{"type": "full"}, {"type": "lora", "task_type": "CAUSAL_LM"}]}),
            "methods.1.task_type",
            "is for SEQ_CLS",
        ),
        (
            json!({"methods": "all", "objective": {"metric": "valid_perplexity"}}),
            "objective.metric",
            "is measured by",
        ),
        (
            json!({"methods": "all", "seeds": [1, 1]}),
            "seeds",
            "lists 1 twice",
        ),
        (json!({}), "methods", "nothing to compare"),
    ] {
        let body = body(&app, more).await.to_string();
        for path in [
            EXPERIMENTS.to_owned(),
            format!("{EXPERIMENTS}?dry_run=true"),
        ] {
            let (status, found, told) = app.post_json(&path, body.clone()).await.error().await;
            assert_eq!((status, found.as_str()), (400, param), "{told}");
            assert!(told.contains(message), "{told}");
        }
    }
    assert_eq!(app.get(EXPERIMENTS).await.json().await["data"], json!([]));
    assert_eq!(app.get(JOBS).await.json().await["data"], json!([]));
    for verb in ["cancel", "pause", "resume"] {
        let (status, param, _) = app
            .post(&format!("{EXPERIMENTS}/exp-none/{verb}"))
            .await
            .error()
            .await;
        assert_eq!((status, param.as_str()), (404, "id"));
    }
    for path in ["", "/events", "/events/stream", "/table"] {
        let answer = app.get(&format!("{EXPERIMENTS}/exp-none{path}")).await;
        assert_eq!(answer.error().await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn a_dry_run_tells_what_would_be_compared() {
    let app = TestApp::start().await;
    let body = body(&app, twelve()).await.to_string();
    let plan = app
        .post_json(&format!("{EXPERIMENTS}?dry_run=true"), body)
        .await
        .json()
        .await;
    assert_eq!(
        (&plan["object"], &plan["runs"]),
        (&json!("experiment.plan"), &json!(12))
    );
    assert_eq!(
        plan["configurations"][1]["label"],
        "LoRA r=8 learning_rate=0.00001"
    );
    assert_eq!(app.get(JOBS).await.json().await["data"], json!([]));
}

#[tokio::test]
async fn an_experiment_sent_twice_is_made_once() {
    let app = TestApp::start().await;
    let body = body(
        &app,
        json!({"methods": "all", "training": {"max_steps": 1}}),
    )
    .await
    .to_string();
    let send = || async {
        let request = Request::post(EXPERIMENTS)
            .header(header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", "k1")
            .body(body.clone().into());
        app.send(request.unwrap()).await.json().await["id"].clone()
    };
    assert_eq!(send().await, send().await);
    assert_eq!(
        app.get(JOBS).await.json().await["data"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
}

#[tokio::test]
async fn a_budget_cuts_the_runs() {
    let app = TestApp::start().await;
    let ended = end(
        &app,
        json!({"methods": "all", "training": {"max_steps": 9}, "budget": {"max_steps": 4}}),
    )
    .await;
    assert_eq!(json!(column(&ended, "steps")), json!([4, 4, 4, 4]));
    assert_eq!(ended["budget"], json!({"max_steps": 4}));
    let job = app
        .get(&format!("{JOBS}/{}", text(&ended["jobs"][0])))
        .await
        .json()
        .await;
    assert_eq!(job["training"]["max_steps"], 4);
}
