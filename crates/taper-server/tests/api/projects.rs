//! No route shows or changes what is another project's. The routes are those of the API's description, which is made from the table
//! of routes: one that is not known here fails the test, until it is said how it keeps projects apart.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use futures_util::StreamExt;
use serde_json::json;
use taper_core::Role;
use taper_store::Scope;

use crate::{
    app::{Answer, JOBS, TestApp, text},
    client::{Client, FORM, JSON, form},
};

/// Stands in everything that project a gives a name to.
const MARK: &str = "secretofa";

/// How a route keeps projects apart.
#[derive(Debug, PartialEq)]
enum Apart {
    /// It names one thing: of another project it is as if there were none.
    Names,
    /// It lists things: only one's own.
    Lists,
    /// It makes things in one's own project, of one's own things.
    Makes,
    /// It shows and changes nothing of anybody's.
    Neutral,
    /// It is about the server as a whole.
    Admin,
}

fn apart(operation: &str) -> Apart {
    match operation {
        "list_files" | "list_jobs" | "list_models" | "list_experiments" | "stream_all_events" => {
            Apart::Lists
        }
        "create_file" | "create_upload" | "create_job" | "create_experiment" => Apart::Makes,
        "find_file" | "delete_file" | "download_file" => Apart::Names,
        "add_upload_part" | "complete_upload" | "cancel_upload" => Apart::Names,
        "find_job" | "change_job" | "delete_job" | "cancel_job" | "pause_job" | "resume_job"
        | "retry_job" | "list_events" | "list_checkpoints" | "stream_job_events"
        | "find_metrics" | "list_artifacts" | "download_artifact" | "download_archive"
        | "download_model" => Apart::Names,
        "find_model" | "delete_model" => Apart::Names,
        "find_experiment"
        | "delete_experiment"
        | "cancel_experiment"
        | "pause_experiment"
        | "resume_experiment"
        | "list_experiment_events"
        | "stream_experiment_events"
        | "find_table" => Apart::Names,
        "create_session" | "find_session" | "delete_session" => Apart::Neutral,
        "healthz" | "readyz" | "openapi_json" | "list_settings" => Apart::Neutral,
        "metrics" => Apart::Admin,
        unknown => panic!("say here how the route {unknown} keeps projects apart"),
    }
}

/// A route of the description.
#[derive(Debug)]
struct Route {
    operation: String,
    method: String,
    path: String,
}

fn routes() -> Vec<Route> {
    let api = serde_json::to_value(taper_server::openapi()).unwrap();
    let mut routes = Vec::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            routes.push(Route {
                operation: text(&operation["operationId"]),
                method: method.to_uppercase(),
                path: path.clone(),
            });
        }
    }
    // Looking first, deleting last, and a model before the job that has made it.
    let order = ["GET", "PATCH", "POST", "DELETE"];
    routes.sort_by_key(|route| {
        let turn = order.iter().position(|method| *method == route.method);
        (turn, Reverse(route.path.clone()))
    });
    routes
}

/// What project a has.
struct Things {
    file: String,
    upload: String,
    part: String,
    job: String,
    model: String,
    experiment: String,
    /// Everything by which it could be known again.
    marks: Vec<String>,
}

impl Things {
    /// The path of a route with the names of these things in it.
    fn path(&self, route: &Route) -> String {
        let id = match route.path.split('/').nth(2).unwrap_or_default() {
            "files" => &self.file,
            "uploads" => &self.upload,
            "fine_tuning" => &self.job,
            "models" => &self.model,
            "experiments" => &self.experiment,
            _ => "",
        };
        let path = route
            .path
            .replace("{id}", id)
            .replace("{path}", "metrics.csv");
        assert!(
            !path.contains('{') && !path.contains("//"),
            "fill in {route:?}"
        );
        path
    }

    /// A body that the route takes, with its media type.
    fn body(&self, operation: &str) -> Option<(&'static str, String)> {
        match operation {
            "change_job" => Some((JSON, json!({"priority": 1}).to_string())),
            "complete_upload" => Some((JSON, json!({"part_ids": [self.part]}).to_string())),
            "add_upload_part" => Some((FORM, form(&[("name=\"data\"", "{}")]))),
            _ => None,
        }
    }
}

impl Client<'_> {
    /// Makes one thing of each kind.
    async fn fill(&self) -> Things {
        let file = self.upload(MARK).await;
        let new = json!({"bytes": 2, "filename": MARK, "mime_type": "text/jsonl", "purpose": "fine-tune"});
        let upload = text(&self.post("/v1/uploads", &new).await.json().await["id"]);
        let part = Some((FORM, form(&[("name=\"data\"", "{}")])));
        let part = self
            .send("POST", &format!("/v1/uploads/{upload}/parts"), part)
            .await;
        let part = text(&part.json().await["id"]);
        let new = json!({"model": "tiny", "training_file": file, "suffix": MARK, "metadata": {"team": MARK}});
        let job = text(&self.post(JOBS, &new).await.json().await["id"]);
        let stream = self
            .send("GET", &format!("{JOBS}/{job}/events/stream"), None)
            .await;
        assert!(stream.text().await.ends_with("data: [DONE]\n\n"));
        let ended = self.get(&format!("{JOBS}/{job}")).await;
        let checkpoints = self.get(&format!("{JOBS}/{job}/checkpoints")).await;
        let model = text(&ended["fine_tuned_model"]);
        assert!(model.starts_with(&format!("ft:tiny:a:{MARK}:")), "{model}");
        let new = json!({"model": "tiny", "training_file": file, "validation_file": file, "suffix": MARK, "methods": "all"});
        let experiment = text(&self.post("/v1/experiments", &new).await.json().await["id"]);
        while self.get(&format!("/v1/experiments/{experiment}")).await["status"] != "succeeded" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut marks = vec![MARK.to_owned(), text(&checkpoints["data"][0]["id"])];
        marks.extend([&file, &upload, &part, &job, &model, &experiment].map(String::clone));
        marks.push(text(&ended["result_files"][0]));
        Things {
            file,
            upload,
            part,
            job,
            model,
            experiment,
            marks,
        }
    }

    /// All that can be seen of the things, to compare it later.
    async fn look_at(&self, things: &Things) -> BTreeMap<String, String> {
        let mut seen = BTreeMap::new();
        for route in routes() {
            let stays = !matches!(
                route.operation.as_str(),
                "openapi_json" | "metrics" | "stream_all_events" | "stream_experiment_events"
            );
            if route.method == "GET" && stays {
                let path = things.path(&route);
                let bytes = self.send("GET", &path, None).await.bytes().await;
                seen.insert(path, String::from_utf8_lossy(&bytes).into_owned());
            }
        }
        seen
    }
}

/// The text of an answer; of a stream without an end what comes at once.
async fn told(answer: Answer) -> String {
    let mut stream = answer.body.into_data_stream();
    let mut text = String::new();
    while let Ok(Some(piece)) =
        tokio::time::timeout(Duration::from_millis(300), stream.next()).await
    {
        text += &String::from_utf8_lossy(&piece.unwrap());
    }
    text
}

fn assert_tells_nothing(text: &str, marks: &[String], route: &Route) {
    for mark in marks {
        assert!(
            !text.contains(mark.as_str()),
            "{route:?} tells {mark}: {text}"
        );
    }
}

#[tokio::test]
async fn no_route_shows_or_changes_what_is_another_projects() {
    let app = TestApp::start().await;
    let a = Client::new(&app, Role::Submit, "a").await;
    let b = Client::new(&app, Role::Submit, "b").await;
    let things = a.fill().await;
    let before = a.look_at(&things).await;
    for route in routes() {
        let (path, body) = (things.path(&route), things.body(&route.operation));
        match apart(&route.operation) {
            Apart::Names => {
                let answer = b.send(&route.method, &path, body).await;
                let (status, _, message) = answer.error().await;
                assert_eq!(status, 404, "{route:?}: {message}");
                let others = things.marks.iter().filter(|mark| !path.contains(*mark));
                let others: Vec<_> = others.cloned().collect();
                assert_tells_nothing(&message, &others, &route);
            }
            Apart::Lists => {
                let own = told(b.send(&route.method, &path, None).await).await;
                assert_tells_nothing(&own, &things.marks, &route);
                let of_a = told(a.send(&route.method, &path, None).await).await;
                assert!(
                    things.marks.iter().any(|mark| of_a.contains(mark)),
                    "{route:?}: {of_a}"
                );
            }
            Apart::Admin => {
                let refused = b.send(&route.method, &path, None).await;
                assert_eq!(refused.error().await.0, 403, "{route:?}");
            }
            Apart::Makes | Apart::Neutral => {}
        }
    }
    assert_eq!(a.look_at(&things).await, before);
}

/// Otherwise the test above would be content with routes that find nothing at all.
#[tokio::test]
async fn every_route_finds_what_is_ones_own() {
    let app = TestApp::start().await;
    let a = Client::new(&app, Role::Submit, "a").await;
    let things = a.fill().await;
    for route in routes() {
        if apart(&route.operation) == Apart::Names {
            let path = things.path(&route);
            let answer = a
                .send(&route.method, &path, things.body(&route.operation))
                .await;
            // An upload is completed before it is cancelled, a job has ended before it is paused, and it has made an adapter and no model.
            let status = answer.status.as_u16();
            let changes = matches!(route.method.as_str(), "POST" | "PATCH");
            let may_refuse = changes || route.operation == "download_model";
            let found = matches!(status, 200 | 204) || (status == 400 && may_refuse);
            assert!(found, "{route:?}: {status} {}", told(answer).await);
        }
    }
}

#[tokio::test]
async fn nothing_is_made_of_what_is_another_projects() {
    let app = TestApp::start().await;
    let a = Client::new(&app, Role::Submit, "a").await;
    let b = Client::new(&app, Role::Submit, "b").await;
    let things = a.fill().await;
    let own = b.upload("rows").await;
    let checkpoint = format!("{}:ckpt-step-5", things.model);
    for (body, param) in [
        (
            json!({"model": "tiny", "training_file": things.file}),
            "training_file",
        ),
        (
            json!({"model": "tiny", "training_file": own, "validation_file": things.file}),
            "validation_file",
        ),
        (
            json!({"model": things.model, "training_file": own}),
            "model",
        ),
        (json!({"model": checkpoint, "training_file": own}), "model"),
    ] {
        for path in [JOBS.to_owned(), format!("{JOBS}?dry_run=true")] {
            let (status, about, message) = b.post(&path, &body).await.error().await;
            assert_eq!((status, about.as_str()), (400, param), "{path}: {message}");
        }
    }
    let new =
        json!({"bytes": 2, "filename": "x", "mime_type": "text/jsonl", "purpose": "fine-tune"});
    let upload = text(&b.post("/v1/uploads", &new).await.json().await["id"]);
    let complete = json!({"part_ids": [things.part]});
    let refused = b
        .post(&format!("/v1/uploads/{upload}/complete"), &complete)
        .await;
    assert_eq!(refused.error().await.0, 400);
    for path in [
        format!("/v1/files?after={}", things.file),
        format!("{JOBS}?after={}", things.job),
    ] {
        let refused = b.send("GET", &path, None).await.error().await;
        assert_eq!((refused.0, refused.1.as_str()), (400, "after"));
    }
    let filtered = b.get(&format!("{JOBS}?metadata[team]={MARK}")).await;
    assert_eq!(filtered["data"], json!([]));
    let followed = format!("/v1/events/stream?jobs={}", things.job);
    let heard = told(b.send("GET", &followed, None).await).await;
    assert_eq!(heard, "retry: 1000\n");

    // What it makes is its own, and found by a key for all projects.
    let new = json!({"model": "tiny", "training_file": own, "suffix": "x"});
    let job = b.post(JOBS, &new).await.json().await;
    assert_eq!(job["organization_id"], "org-b");
    let (_, key) = app.key(Role::Admin, Scope::All).await;
    let admin = Client {
        app: &app,
        key: Some(key),
    };
    for id in [&things.job, &text(&job["id"])] {
        assert_eq!(admin.get(&format!("{JOBS}/{id}")).await["id"], id.as_str());
    }
    let files = admin.get("/v1/files").await.to_string();
    assert!(files.contains(&things.file) && files.contains(&own));
}

#[tokio::test]
async fn without_a_key_every_route_of_the_api_is_closed() {
    let app = TestApp::start().await;
    let a = Client::new(&app, Role::Submit, "a").await;
    let things = a.fill().await;
    let before = a.look_at(&things).await;
    let nobody = Client {
        app: &app,
        key: None,
    };
    for route in routes() {
        let (path, body) = (things.path(&route), things.body(&route.operation));
        let answer = nobody.send(&route.method, &path, body).await;
        match route.operation.as_str() {
            "healthz" | "readyz" | "openapi_json" => assert_eq!(answer.status.as_u16(), 200),
            _ => assert_eq!(answer.error().await.0, 401, "{route:?}"),
        }
    }
    assert_eq!(a.look_at(&things).await, before);
}

#[tokio::test]
async fn a_key_to_read_changes_nothing() {
    let app = TestApp::start().await;
    let a = Client::new(&app, Role::Submit, "a").await;
    let reader = Client::new(&app, Role::Read, "a").await;
    let things = a.fill().await;
    let before = a.look_at(&things).await;
    assert_eq!(reader.look_at(&things).await.len(), before.len());
    for route in routes() {
        let signs = matches!(
            route.operation.as_str(),
            "create_session" | "delete_session"
        );
        if route.method == "GET" || signs {
            continue;
        }
        let (path, body) = (things.path(&route), things.body(&route.operation));
        let refused = reader.send(&route.method, &path, body).await;
        assert_eq!(refused.error().await.0, 403, "{route:?}");
    }
    assert_eq!(a.look_at(&things).await, before);
}
