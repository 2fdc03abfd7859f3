use axum::{
    body::Body,
    http::{Request, header},
};
use serde_json::Value;
use taper_core::{Project, Role};
use taper_store::Scope;

use crate::app::{Answer, ROWS, TestApp, text};

pub(crate) const JSON: &str = "application/json";
pub(crate) const FORM: &str = "multipart/form-data; boundary=XX";

/// A form of parts, each with its disposition.
pub(crate) fn form(parts: &[(&str, &str)]) -> String {
    let mut form = String::new();
    for (disposition, content) in parts {
        form +=
            &format!("--XX\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{content}\r\n");
    }
    form + "--XX--\r\n"
}

/// A client with a key of its own, or without one.
pub(crate) struct Client<'a> {
    pub(crate) app: &'a TestApp,
    pub(crate) key: Option<String>,
}

impl<'a> Client<'a> {
    pub(crate) async fn new(app: &'a TestApp, role: Role, project: &str) -> Self {
        let scope = Scope::Project(Project::parse(project).unwrap());
        let (_, key) = app.key(role, scope).await;
        Self {
            app,
            key: Some(key),
        }
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<(&str, String)>,
    ) -> Answer {
        // From the start, where the route is a stream.
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("last-event-id", "0");
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        if let Some((media_type, _)) = &body {
            request = request.header(header::CONTENT_TYPE, *media_type);
        }
        let body = body.map_or_else(Body::empty, |(_, text)| Body::from(text));
        self.app.send(request.body(body).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.send("GET", path, None).await.json().await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, Some((JSON, body.to_string())))
            .await
    }

    pub(crate) async fn upload(&self, name: &str) -> String {
        let file = format!("name=\"file\"; filename=\"{name}.jsonl\"");
        let purpose = ("name=\"purpose\"", "fine-tune");
        let form = form(&[purpose, (&file, ROWS)]);
        let answer = self.send("POST", "/v1/files", Some((FORM, form))).await;
        text(&answer.json().await["id"])
    }
}
