use std::{fs, sync::Arc};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    http::{HeaderMap, Request, StatusCode, header, request},
};
use serde_json::{Value, json};
use taper_core::{Device, Role};
use taper_scheduler::{Patience, Retention, Scheduler, SchedulerConfig};
use taper_server::{AppState, ServerConfig};
use taper_store::{KeyRing, Limits, Scope, Store};
use tempfile::TempDir;
use tower::ServiceExt;

use crate::trainer::ScriptedTrainer;

pub(crate) const JOBS: &str = "/v1/fine_tuning/jobs";
pub(crate) const ROWS: &str =
    "{\"text\": \"dull\", \"label\": \"bad\"}\n{\"text\": \"fine\", \"label\": \"good\"}\n";

/// A server without a socket.
pub(crate) struct TestApp {
    router: Router,
    pub(crate) state: AppState,
    scheduler: Scheduler,
    pub(crate) store: Store,
    dir: TempDir,
}

impl TestApp {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// On a disk that leaves no more than `limits` allow.
    pub(crate) async fn start_within(limits: Limits) -> Self {
        Self::build(limits, |_| {}).await
    }

    pub(crate) async fn start_with(configure: impl FnOnce(&mut ServerConfig)) -> Self {
        Self::build(Limits::default(), configure).await
    }

    async fn build(limits: Limits, configure: impl FnOnce(&mut ServerConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for model in ["tiny", "org/small"] {
            let folder = dir.path().join("models").join(model);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("config.json"), "{}").unwrap();
        }
        Self::open(dir, limits, configure).await
    }

    /// Stops the server and starts another one on the same directory.
    pub(crate) async fn restart(self) -> Self {
        self.scheduler.shutdown().await;
        self.store.close().await.unwrap();
        Self::open(self.dir, Limits::default(), |_| {}).await
    }

    async fn open(dir: TempDir, limits: Limits, configure: impl FnOnce(&mut ServerConfig)) -> Self {
        let data = dir.path().join("data");
        let store = Store::open_within(&data, limits).await.unwrap();
        let scheduler = SchedulerConfig {
            models_dir: dir.path().join("models"),
            devices: vec![Device::Cpu],
            threads: 1,
            memory_limit: None,
            patience: Patience::default(),
            retention: Retention::default(),
        };
        let scheduler = Scheduler::start(store.clone(), Arc::new(ScriptedTrainer), scheduler);
        let scheduler = scheduler.await.unwrap();
        let mut config = ServerConfig::new("127.0.0.1:8000".parse().unwrap());
        configure(&mut config);
        let state = AppState::new(store.clone(), scheduler.clone(), config);
        Self {
            router: taper_server::router(state.clone()),
            state,
            scheduler,
            store,
            dir,
        }
    }

    /// Makes a key as an administrator does, beside the running server; its id and its text.
    pub(crate) async fn key(&self, role: Role, scope: Scope) -> (String, String) {
        let mut ring = self.key_ring().await;
        let (key, text) = ring.create(role, scope, "").await.unwrap();
        ring.close().await.unwrap();
        (key.id, text)
    }

    pub(crate) async fn key_ring(&self) -> KeyRing {
        KeyRing::open(&self.dir.path().join("data")).await.unwrap()
    }

    /// Sends a request as a client on the same machine.
    pub(crate) async fn send(&self, mut request: Request<Body>) -> Answer {
        let host = "localhost:8000".parse().unwrap();
        request.headers_mut().entry(header::HOST).or_insert(host);
        let response = self.router.clone().oneshot(request).await.unwrap();
        Answer {
            status: response.status(),
            headers: response.headers().clone(),
            body: response.into_body(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(get(path).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str) -> Answer {
        let request = Request::post(path).body(Body::empty());
        self.send(request.unwrap()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        let request = Request::delete(path).body(Body::empty());
        self.send(request.unwrap()).await
    }

    pub(crate) async fn post_json(&self, path: &str, body: impl Into<Body>) -> Answer {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.into());
        self.send(request.unwrap()).await
    }

    /// Uploads a form of parts, each with its headers.
    pub(crate) async fn post_form(&self, parts: &[(&str, &str)]) -> Answer {
        let mut form = String::new();
        for (disposition, content) in parts {
            form += &format!(
                "--XX\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{content}\r\n"
            );
        }
        form += "--XX--\r\n";
        self.send(form_request(form)).await
    }

    /// Uploads rows and tells the file's id.
    pub(crate) async fn upload(&self, rows: &str) -> String {
        let file = ("name=\"file\"; filename=\"rows.jsonl\"", rows);
        let answer = self.post_form(&[PURPOSE, file]).await;
        text(&answer.json().await["id"])
    }

    /// Submits a job on fresh data with more fields in its body, and tells its id.
    pub(crate) async fn submit(&self, more: Value) -> String {
        let mut body = json!({"model": "tiny", "training_file": self.upload(ROWS).await});
        let fields = more.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(fields);
        let answer = self.post_json(JOBS, body.to_string()).await;
        text(&answer.json().await["id"])
    }

    /// Waits for the end of a job, which is the end of its stream.
    pub(crate) async fn wait(&self, job: &str) -> Value {
        let stream = self.get(&format!("{JOBS}/{job}/events/stream")).await;
        assert!(stream.text().await.ends_with("data: [DONE]\n\n"));
        self.get(&format!("{JOBS}/{job}")).await.json().await
    }

    /// Waits until a job is in a state.
    pub(crate) async fn reach(&self, job: &str, state: &str) {
        let mut events = self.store.subscribe(&Scope::All);
        while self.get(&format!("{JOBS}/{job}")).await.json().await["status"] != state {
            events.recv().await.unwrap();
        }
    }

    /// Names of what lies in the folder of uploads.
    pub(crate) fn uploads(&self) -> Vec<String> {
        let names = fs::read_dir(self.dir.path().join("data/files")).unwrap();
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
        names.map(|e| name(e).into_string().unwrap()).collect()
    }
}

pub(crate) const PURPOSE: (&str, &str) = ("name=\"purpose\"", "fine-tune");

pub(crate) fn get(path: &str) -> request::Builder {
    Request::get(path)
}

pub(crate) fn form_request(form: impl Into<Body>) -> Request<Body> {
    Request::post("/v1/files")
        .header(header::CONTENT_TYPE, "multipart/form-data; boundary=XX")
        .body(form.into())
        .unwrap()
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// An answer whose body may still be coming.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    pub(crate) async fn bytes(self) -> Bytes {
        to_bytes(self.body, usize::MAX).await.unwrap()
    }

    pub(crate) async fn text(self) -> String {
        String::from_utf8(self.bytes().await.into()).unwrap()
    }

    /// The body of an answer that has to be good.
    pub(crate) async fn json(self) -> Value {
        let status = self.status;
        let text = self.text().await;
        assert_eq!(status, StatusCode::OK, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Status, param and message of an answer that has to be an error in OpenAI's shape.
    pub(crate) async fn error(self) -> (u16, String, String) {
        let status = self.status.as_u16();
        assert_eq!(self.header("content-type"), "application/json", "{status}");
        assert!(self.header("x-request-id").starts_with("req_"));
        let body: Value = serde_json::from_str(&self.text().await).unwrap();
        let error = body["error"].as_object().unwrap();
        let keys: Vec<_> = error.keys().map(String::as_str).collect();
        assert_eq!(keys, ["message", "type", "param", "code"]);
        let param = error["param"].as_str().unwrap_or("-");
        (status, param.to_owned(), text(&error["message"]))
    }
}
