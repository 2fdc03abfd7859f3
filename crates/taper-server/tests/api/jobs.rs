use axum::http::Request;
use serde_json::{Value, json};
use taper_store::Scope;

use crate::app::{JOBS, ROWS, TestApp, text};

#[tokio::test]
async fn a_new_job_shows_every_value_in_force() {
    let app = TestApp::start().await;
    let body = json!({
        "model": "tiny", "training_file": app.upload(ROWS).await, "validation_file": app.upload(ROWS).await,
        "tuning": {"type": "lora", "r": 4},
        "training": {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "num_train_epochs": 1.5},
    });
    let job = app.post_json(JOBS, body.to_string()).await.json().await;
    let fields = job.as_object().unwrap();
    for required in REQUIRED.split_whitespace() {
        assert!(fields.contains_key(required), "{required}");
    }
    assert_eq!(job["object"], "fine_tuning.job");
    assert_eq!(job["status"], "validating_files");
    let tuning = json!({
        "type": "lora", "r": 4, "lora_alpha": 16.0, "lora_dropout": 0.1,
        "target_modules": ["query", "value"], "bias": "none", "use_rslora": false,
        "rank_pattern": {}, "alpha_pattern": {}, "layers_to_transform": null, "modules_to_save": null,
        "loraplus_lr_ratio": null, "task_type": "SEQ_CLS",
    });
    assert_eq!(job["tuning"], tuning);
    assert_eq!(job["training"]["learning_rate"], 1e-3);
    assert_eq!(job["training"]["max_length"], 256);
    let hyperparameters = json!({"n_epochs": 2, "batch_size": 8, "learning_rate_multiplier": 1});
    assert_eq!(job["hyperparameters"], hyperparameters);
    let method = json!({"type": "supervised", "supervised": {"hyperparameters": hyperparameters}});
    assert_eq!(job["method"], method);
    assert_eq!((&job["error"], &job["seed"]), (&Value::Null, &json!(42)));
}

/// Clients that write all fields of a body down send null for those that nobody has set, whether there are such here or not.
#[tokio::test]
async fn a_field_that_is_null_is_absent() {
    let app = TestApp::start().await;
    let nulls = json!({
        "suffix": null, "validation_file": null, "seed": null, "integrations": null, "custom_llm_provider": null,
        "hyperparameters": {"n_epochs": null, "batch_size": "auto", "unheard_of": null},
        "method": {
            "type": "supervised", "dpo": null, "reinforcement": null,
            "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": null, "learning_rate_multiplier": null}},
        },
        "metadata": {"a": null, "b": "c"},
        "tuning": {"type": "lora", "rank_pattern": {"query": null}},
        "training": {"learning_rate": null},
    });
    let id = app.submit(nulls).await;
    let job = app.get(&format!("{JOBS}/{id}")).await.json().await;
    assert_eq!(job["hyperparameters"]["n_epochs"], 1);
    assert_eq!(job["metadata"], json!({"b": "c"}));
    assert_eq!(job["tuning"]["rank_pattern"], json!({}));
    let body = json!({"model": "tiny", "training_file": "f", "custom_llm_provider": "openai"});
    let answer = app.post_json(JOBS, body.to_string()).await;
    let (status, param, _) = answer.error().await;
    assert_eq!((status, param.as_str()), (400, "custom_llm_provider"));
}

/// The fields that OpenAI's description requires, and taper's own.
const REQUIRED: &str = "id object created_at error fine_tuned_model finished_at hyperparameters model organization_id \
     result_files seed status trained_tokens training_file validation_file \
     metadata method tuning training metrics plan attempt priority queue_position started_at estimated_finish";

#[tokio::test]
async fn a_succeeded_job_shows_what_it_made() {
    let app = TestApp::start().await;
    let more = json!({"model": "org/small", "suffix": "my reviews", "training": {"max_steps": 3}});
    let id = app.submit(more).await;
    let job = app.wait(&id).await;
    assert_eq!(job["status"], "succeeded");
    let model = format!("ft:org/small:default:my-reviews:{}", &id[id.len() - 8..]);
    assert_eq!(job["fine_tuned_model"], model);
    assert_eq!(
        (&job["trained_tokens"], &job["attempt"]),
        (&json!(640), &json!(1))
    );
    assert_eq!(job["plan"]["classes"], json!(["bad", "good"]));
    let metrics = job["metrics"].as_object().unwrap();
    assert_eq!(
        (&metrics["step"], &metrics["valid_loss"]),
        (&json!(3), &Value::Null)
    );
    assert!(!metrics.contains_key("non_finite"));
    assert_eq!(job["estimated_finish"], Value::Null);
    assert!(job["finished_at"].as_i64() >= job["started_at"].as_i64());

    let results = text(&job["result_files"][0]);
    let file = app.get(&format!("/v1/files/{results}")).await.json().await;
    assert_eq!(file["purpose"], "fine-tune-results");
    let checkpoints = app
        .get(&format!("{JOBS}/{id}/checkpoints"))
        .await
        .json()
        .await;
    let checkpoint = &checkpoints["data"][0];
    let named = &checkpoint["fine_tuned_model_checkpoint"];
    assert_eq!(named, &json!(format!("{model}:ckpt-step-3")));
    assert_eq!(checkpoint["step_number"], 3);
    assert_eq!(checkpoint["fine_tuning_job_id"], id);
    assert_eq!(checkpoints["last_id"], checkpoint["id"]);

    for escaped in [model.clone(), model.replace('/', "%2F")] {
        let found = app.get(&format!("/v1/models/{escaped}")).await.json().await;
        assert_eq!(
            (&found["id"], &found["owned_by"]),
            (&json!(model), &json!("user"))
        );
    }
    let models = app.get("/v1/models").await.json().await;
    let models = models["data"].as_array().unwrap().clone();
    let ids: Vec<_> = models.iter().map(|model| text(&model["id"])).collect();
    assert_eq!(ids, ["org/small", "tiny", model.as_str()]);
}

#[tokio::test]
async fn a_failed_job_says_why() {
    let app = TestApp::start().await;
    let id = app.submit(json!({"metadata": {"script": "fail"}})).await;
    let job = app.wait(&id).await;
    assert_eq!(job["status"], "failed");
    let message = "the loss is not finite at step 3; lower the learning rate";
    assert_eq!(
        job["error"],
        json!({"code": "non_finite", "message": message, "param": null, "step": 3})
    );
    let (status, param, message) = app.post(&format!("{JOBS}/{id}/cancel")).await.error().await;
    assert_eq!((status, param.as_str()), (400, "-"));
    assert!(message.contains("failed"), "{message}");
}

#[tokio::test]
async fn a_running_job_tells_when_it_ends_and_can_be_cancelled() {
    let app = TestApp::start().await;
    let running = app.submit(json!({"metadata": {"script": "wait"}})).await;
    app.reach(&running, "running").await;
    let queued = app.submit(json!({})).await;
    app.reach(&queued, "queued").await;
    let job = app.get(&format!("{JOBS}/{queued}")).await.json().await;
    assert_eq!(job["queue_position"], 1);
    let mut events = app.store.subscribe(&Scope::All);
    let job = loop {
        let job = app.get(&format!("{JOBS}/{running}")).await.json().await;
        if job["metrics"]["eta_seconds"] == 99.0 {
            break job;
        }
        events.recv().await.unwrap();
    };
    let left = job["estimated_finish"].as_i64().unwrap() - job["started_at"].as_i64().unwrap();
    assert!((99..=130).contains(&left), "{left}");
    for id in [&queued, &running, &running] {
        let job = app.post(&format!("{JOBS}/{id}/cancel")).await.json().await;
        assert_eq!(job["status"], "cancelled");
    }
}

#[tokio::test]
async fn a_job_is_paused_resumed_moved_and_deleted() {
    let app = TestApp::start().await;
    let id = app.submit(json!({"metadata": {"script": "wait"}})).await;
    app.reach(&id, "running").await;
    let path = format!("{JOBS}/{id}");
    let post = async |verb: &str| app.post(&format!("{path}/{verb}")).await;
    for _ in 0..2 {
        assert_eq!(post("pause").await.json().await["status"], "paused");
    }
    let patch = async |body: &str| {
        let request = Request::patch(&path).header("content-type", "application/json");
        app.send(request.body(body.to_owned().into()).unwrap())
            .await
    };
    let moved = patch("{\"priority\": -7}").await.json().await;
    assert_eq!(
        (&moved["priority"], &moved["status"]),
        (&json!(-7), &json!("paused"))
    );
    let (status, param, _) = patch("{\"priority\": 101}").await.error().await;
    assert_eq!((status, param.as_str()), (400, "priority"));
    let (status, _, message) = post("retry").await.error().await;
    let told = format!("job {id} is paused; a job can be retried while it is failed");
    assert_eq!((status, message), (400, told));
    let (status, _, message) = app.delete(&path).await.error().await;
    let told = "a job can be deleted while it is succeeded, failed or cancelled";
    assert!(status == 400 && message.ends_with(told), "{message}");
    assert_eq!(post("resume").await.json().await["status"], "queued");
    app.reach(&id, "running").await;
    assert_eq!(post("cancel").await.json().await["status"], "cancelled");
    let gone = app.delete(&path).await.json().await;
    let expected = json!({"id": id, "object": "fine_tuning.job", "deleted": true});
    assert_eq!(gone, expected);
    assert_eq!(app.get(&path).await.error().await.0, 404);
    let list = app.get(JOBS).await.json().await;
    assert_eq!(list["data"], json!([]));
}

#[tokio::test]
async fn lists_and_their_filters() {
    let app = TestApp::start().await;
    let mut ids = Vec::new();
    for team in ["a", "b", "a"] {
        let id = app
            .submit(json!({"metadata": {"team": team, "n": "1"}}))
            .await;
        app.wait(&id).await;
        ids.insert(0, id);
    }
    let listed = async |query: &str| -> (Vec<String>, bool) {
        let page = app.get(&format!("{JOBS}{query}")).await.json().await;
        let jobs = page["data"].as_array().unwrap();
        let ids = jobs.iter().map(|job| text(&job["id"])).collect();
        (ids, page["has_more"].as_bool().unwrap())
    };
    assert_eq!(listed("").await, (ids.clone(), false));
    assert_eq!(listed("?limit=2").await, (ids[..2].to_vec(), true));
    let after = format!("?limit=2&after={}", ids[1]);
    assert_eq!(listed(&after).await, (ids[2..].to_vec(), false));
    let of_team = "?metadata%5Bteam%5D=a&metadata[n]=1";
    assert_eq!(
        listed(of_team).await,
        (vec![ids[0].clone(), ids[2].clone()], false)
    );
    assert_eq!(listed("?metadata[team]=c").await, (vec![], false));
    let many: Vec<_> = (0..17).map(|n| format!("metadata[k{n}]=v")).collect();
    let most = format!("?{}", many[..16].join("&"));
    assert_eq!(listed(&most).await, (vec![], false));
    let refused = app.get(&format!("{JOBS}?{}", many.join("&"))).await;
    let (status, param, _) = refused.error().await;
    assert_eq!((status, param.as_str()), (400, "metadata"));

    let path = format!("{JOBS}/{}/events", ids[0]);
    let all = app.get(&path).await.json().await;
    let all = all["data"].as_array().unwrap().clone();
    assert_eq!(all[0]["data"]["status"], "succeeded");
    let mut seen = Vec::new();
    let mut query = "?limit=3".to_owned();
    loop {
        let page = app.get(&format!("{path}{query}")).await.json().await;
        seen.extend(page["data"].as_array().unwrap().clone());
        query = format!("?limit=3&after={}", text(&page["last_id"]));
        if page["has_more"] == false {
            break;
        }
    }
    assert_eq!(seen, all);
    let metrics = all.iter().find(|event| event["type"] == "metrics").unwrap();
    assert_eq!(metrics["object"], "fine_tuning.job.event");
    assert!(text(&metrics["id"]).starts_with("ftevent-"));
}

#[tokio::test]
async fn curves_come_in_buckets() {
    let app = TestApp::start().await;
    let id = app.submit(json!({"training": {"max_steps": 100}})).await;
    app.wait(&id).await;
    let path = format!("{JOBS}/{id}/metrics");
    let all = app.get(&path).await.json().await;
    assert_eq!(all["object"], "fine_tuning.job.metrics");
    assert_eq!(
        all["data"]["train_loss"]["last"].as_array().unwrap().len(),
        100
    );
    assert_eq!(all["data"]["valid_loss"]["last"], json!([null]));
    let few = app
        .get(&format!("{path}?names=train_loss,eta_seconds&points=4"))
        .await
        .json()
        .await;
    assert_eq!(few["data"].as_object().unwrap().len(), 2);
    let loss = &few["data"]["train_loss"];
    assert_eq!(
        (&loss["from"], &loss["to"]),
        (&json!([1, 26, 51, 76]), &json!([25, 50, 75, 100]))
    );
    assert_eq!(
        (&loss["max"][0], &loss["min"][3]),
        (&json!(1.0), &json!(0.01))
    );
    let part = app
        .get(&format!("{path}?names=train_loss&from=10&to=12"))
        .await
        .json()
        .await;
    assert_eq!(part["data"]["train_loss"]["from"], json!([10, 11, 12]));
}
