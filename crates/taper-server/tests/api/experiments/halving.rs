use serde_json::{Value, json};

use super::{EXPERIMENTS, column, create, end, find, has_ended, reach};
use crate::app::{JOBS, TestApp, text};

/// A grid of twelve runs of 90 steps.
pub(super) fn twelve() -> Value {
    json!({"training": {"max_steps": 90}, "strategy": {"type": "asha", "reduction": 3},
        "grid": {"training.learning_rate": [1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3], "tuning.r": [4, 8]}})
}

#[tokio::test]
async fn weak_runs_are_stopped_early_and_stay_in_the_table() {
    let app = TestApp::start().await;
    let ended = end(&app, twelve()).await;
    // 1e-3 is the best rate, for both ranks, and 3e-3 the next.
    let status = column(&ended, "status");
    assert_eq!(
        status.iter().filter(|it| **it == "stopped_early").count(),
        10
    );
    assert_eq!(
        (&status[8], &status[9]),
        (&json!("succeeded"), &json!("succeeded"))
    );
    let mut steps: Vec<u64> = column(&ended, "steps")
        .iter()
        .map(|it| it.as_u64().unwrap())
        .collect();
    assert_eq!(ended["progress"]["steps"], json!(steps.iter().sum::<u64>()));
    steps.sort_unstable();
    assert_eq!(steps, [10, 10, 10, 10, 10, 10, 10, 10, 30, 30, 90, 90]);
    assert_eq!(ended["best"], 8);
    let stopped = app
        .get(&format!("{JOBS}/{}", text(&ended["jobs"][0])))
        .await
        .json()
        .await;
    assert_eq!(
        (&stopped["status"], &stopped["reason"]),
        (&json!("cancelled"), &json!("stopped_early"))
    );
    let checkpoints = format!("{JOBS}/{}/checkpoints", text(&ended["jobs"][0]));
    assert_eq!(
        app.get(&checkpoints).await.json().await["data"][0]["step_number"],
        10
    );
    assert!(ended["table"][0]["metric"].as_f64().unwrap() < 0.6);
    let events = app
        .get(&format!("{JOBS}/{}/events", text(&ended["jobs"][0])))
        .await
        .json()
        .await;
    let last = text(&events["data"][0]["message"]);
    assert!(
        last.starts_with("The run was stopped early: place 11 of 12"),
        "{last}"
    );
}

#[tokio::test]
async fn asha_goes_on_without_a_failing_run() {
    let app = TestApp::start().await;
    let ended = end(
        &app,
        json!({"training": {"max_steps": 9}, "strategy": "asha",
        "grid": {"training.learning_rate": [1e-5, 1e-4, 1e-3, 9]}}),
    )
    .await;
    // Of the three that are left one goes on.
    let status = json!(["stopped_early", "stopped_early", "succeeded", "failed"]);
    assert_eq!(json!(column(&ended, "status")), status);
}

#[tokio::test]
async fn a_run_at_a_rung_waits_for_its_experiment() {
    let app = TestApp::start().await;
    let mut more = twelve();
    more["metadata"] = json!({"script": "slow"});
    let id = text(&create(&app, more).await["id"]);
    let is_at_rung = |it: &Value| it["table"][0]["status"] == "paused";
    let experiment = reach(&app, &id, is_at_rung).await;
    let job = text(&experiment["jobs"][0]);
    let shown = app.get(&format!("{JOBS}/{job}")).await.json().await;
    assert_eq!(
        (&shown["reason"], &shown["pause_at_step"]),
        (&json!("rung"), &json!(10))
    );
    let (status, _, message) = app
        .post(&format!("{JOBS}/{job}/resume"))
        .await
        .error()
        .await;
    assert_eq!(status, 400);
    assert!(
        message.contains(&format!("waits for the other runs of experiment {id}")),
        "{message}"
    );

    // What waits at a rung is not decided upon while the whole is paused.
    app.post(&format!("{EXPERIMENTS}/{id}/pause"))
        .await
        .json()
        .await;
    let paused = reach(&app, &id, |it| it["status"] == "paused").await;
    assert_eq!(paused["progress"]["ended"], 0);
    let app = app.restart().await;
    assert_eq!(find(&app, &id).await["status"], "paused");
    app.post(&format!("{EXPERIMENTS}/{id}/resume"))
        .await
        .json()
        .await;
    let ended = reach(&app, &id, has_ended).await;
    assert_eq!(ended["best"], 8);
}

/// The table without what differs from run to run: ids and times.
fn stable(experiment: &Value) -> String {
    let mut table = experiment["table"].clone();
    for row in table.as_array_mut().unwrap() {
        for name in [
            "jobs",
            "train_seconds",
            "tokens_per_second",
            "peak_memory_bytes",
        ] {
            row.as_object_mut().unwrap().remove(name);
        }
    }
    table.to_string()
}

#[tokio::test]
async fn a_restart_in_the_middle_changes_nothing() {
    let app = TestApp::start().await;
    let undisturbed = end(&app, twelve()).await;
    let mut more = twelve();
    more["metadata"] = json!({"script": "slow"});
    let id = text(&create(&app, more).await["id"]);
    let mut app = app;
    for steps in [35, 120, 150, 230] {
        reach(&app, &id, |it| {
            it["progress"]["steps"].as_u64().unwrap() >= steps
        })
        .await;
        app = app.restart().await;
    }
    let ended = reach(&app, &id, has_ended).await;
    assert_eq!(stable(&ended), stable(&undisturbed));
    assert_eq!(ended["best"], undisturbed["best"]);
}
