use serde_json::{Value, json};

use crate::app::{JOBS, ROWS, TestApp, text};

#[tokio::test]
async fn a_job_goes_on_from_what_another_has_made() {
    let app = TestApp::start().await;
    let first = app
        .submit(json!({"suffix": "one", "model": "org/small"}))
        .await;
    let first = app.wait(&first).await;
    let model = text(&first["fine_tuned_model"]);
    let checkpoint = app
        .get(&format!("{JOBS}/{}/checkpoints", text(&first["id"])))
        .await;
    let checkpoint = checkpoint.json().await["data"][0]["fine_tuned_model_checkpoint"].clone();
    let checkpoint = text(&checkpoint);
    for name in [&model, &checkpoint] {
        let found = app
            .get(&format!("/v1/models/{}", name.replace('/', "%2F")))
            .await;
        assert_eq!(found.json().await["id"], name.as_str());
        let next = app.submit(json!({"model": name, "suffix": "two"})).await;
        let next = app.wait(&next).await;
        assert_eq!(
            (&next["status"], &next["model"]),
            (&json!("succeeded"), &json!(name))
        );
        let made = text(&next["fine_tuned_model"]);
        assert!(made.starts_with("ft:org/small:default:two:"), "{made}");
    }
    for name in [
        "ft:org/small:default:one:00000000",
        &format!("{model}:ckpt-step-99"),
    ] {
        let body = json!({"model": name, "training_file": app.upload(ROWS).await});
        let refused = app.post_json(JOBS, body.to_string()).await.error().await;
        assert_eq!(
            (refused.0, refused.1.as_str()),
            (400, "model"),
            "{}",
            refused.2
        );
    }
}

#[tokio::test]
async fn a_model_goes_without_its_job() {
    let app = TestApp::start().await;
    let job = app.submit(json!({})).await;
    let model = text(&app.wait(&job).await["fine_tuned_model"]);
    let path = format!("/v1/models/{model}");
    let user = app
        .submit(json!({"model": model, "metadata": {"script": "wait"}}))
        .await;
    app.reach(&user, "running").await;
    let (status, _, message) = app.delete(&path).await.error().await;
    assert_eq!(status, 400);
    assert!(message.contains(&user), "{message}");
    // Its job and what else that has made cannot go either.
    let (status, _, message) = app.delete(&format!("{JOBS}/{job}")).await.error().await;
    assert_eq!(status, 400);
    assert!(message.contains(&user), "{message}");
    app.post(&format!("{JOBS}/{user}/cancel"))
        .await
        .json()
        .await;

    let gone = app.delete(&path).await.json().await;
    assert_eq!(
        gone,
        json!({"id": model, "object": "model", "deleted": true})
    );
    assert_eq!(app.get(&path).await.error().await.0, 404);
    assert_eq!(app.delete(&path).await.error().await.0, 404);
    let left = app
        .get(&format!("{JOBS}/{job}/artifacts"))
        .await
        .json()
        .await;
    let paths: Vec<&Value> = left["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["path"])
        .collect();
    assert_eq!(paths, ["metrics.csv"]);
    let job = app.get(&format!("{JOBS}/{job}")).await.json().await;
    assert_eq!(
        job["fine_tuned_model"],
        model.as_str(),
        "the job still tells its name"
    );
    let id = text(&job["id"]);
    let deleted = app.delete(&format!("{JOBS}/{id}")).await.json().await;
    assert_eq!(deleted["deleted"], true);
    let folder = app.delete("/v1/models/tiny").await.error().await;
    assert_eq!((folder.0, folder.1.as_str()), (400, "id"));
    assert_eq!(app.delete("/v1/models/none").await.error().await.0, 404);
}
