//! What a user can get wrong: the status, the field and the sentence, one row each; nothing may be left behind.

use std::fs;

use anyhow::{Context, Result};
use reqwest::{
    Method, RequestBuilder, StatusCode,
    header::CONTENT_TYPE,
    multipart::{Form, Part},
};
use serde_json::{Value, json};

use crate::{
    client::{Client, answer},
    model::{config, jsonl},
    server::{Folders, MODEL, Server},
};

/// What the answer must be: status, `param`, a part of the message.
type Wanted<'a> = (u16, Option<&'a str>, &'a str);

struct Fixture {
    folders: Folders,
    server: Server,
    train: String,
}

impl Fixture {
    async fn start() -> Result<Self> {
        let folders = Folders::new()?;
        let server = folders.serve().await?;
        let train = server.client.upload("train.jsonl", jsonl(20)).await?;
        Ok(Self {
            folders,
            server,
            train,
        })
    }

    fn client(&self) -> &Client {
        &self.server.client
    }

    /// A good body with some fields set otherwise.
    fn body(&self, change: Value) -> Value {
        let mut body =
            json!({"model": MODEL, "training_file": self.train, "training": {"max_steps": 1}});
        for (name, value) in change.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        body
    }

    /// Sends what is wrong and compares; afterwards the server must be alive and hold what it held before.
    async fn refuse(&self, request: RequestBuilder, wanted: Wanted<'_>) -> Result<()> {
        let before = self.state().await?;
        let (status, body) = answer(request).await?;
        let error = &body["error"];
        let message = error["message"].as_str().context("no message")?;
        let keys: Vec<_> = error.as_object().context("no error")?.keys().collect();
        assert_eq!(keys, ["message", "type", "param", "code"], "{body}");
        assert_eq!(
            (status.as_u16(), error["param"].as_str()),
            (wanted.0, wanted.1),
            "{message}"
        );
        assert!(
            message.contains(wanted.2),
            "{message:?} lacks {:?}",
            wanted.2
        );
        assert_eq!(
            self.state().await?,
            before,
            "something was left behind by: {message}"
        );
        Ok(())
    }

    async fn refuse_job(&self, body: Value, wanted: Wanted<'_>) -> Result<()> {
        let request = self
            .client()
            .request(Method::POST, "/v1/fine_tuning/jobs")
            .json(&body);
        self.refuse(request, wanted)
            .await
            .with_context(|| body.to_string())
    }

    /// Files, jobs and what lies on the disk.
    async fn state(&self) -> Result<(Value, Value, Vec<String>)> {
        let files = self.client().get("/v1/files").await?;
        let jobs = self.client().get("/v1/fine_tuning/jobs").await?;
        let disk = self.folders.contents()?;
        Ok((
            files,
            jobs,
            disk.iter().map(|path| path.display().to_string()).collect(),
        ))
    }
}

#[tokio::test]
async fn fields_of_a_job() -> Result<()> {
    let fixture = Fixture::start().await?;
    let rows: [(Value, Wanted<'_>); 22] = [
        (
            json!({"training_file": "file-none"}),
            (400, Some("training_file"), "file-none"),
        ),
        (
            json!({"validation_file": "file-none"}),
            (400, Some("validation_file"), "file-none"),
        ),
        (
            json!({"model": "nobody/nothing"}),
            (400, Some("model"), "GET /v1/models"),
        ),
        (
            json!({"model": "../tiny-bert"}),
            (400, Some("model"), "does not exist"),
        ),
        (
            json!({"model": null}),
            (400, Some("model"), "missing required parameter"),
        ),
        (
            json!({"model": 3}),
            (400, Some("model"), "must be a string"),
        ),
        (
            json!({"trainning": {}}),
            (400, Some("trainning"), "did you mean 'training'?"),
        ),
        (
            json!({"tuning": {"type": "lora", "lora_apha": 8}}),
            (
                400,
                Some("tuning.lora_apha"),
                "did you mean 'tuning.lora_alpha'?",
            ),
        ),
        (
            json!({"tuning": {"type": "lora", "r": 0}}),
            (400, Some("tuning.r"), "from 1 to"),
        ),
        (
            json!({"tuning": {"type": "lora", "r": 33}}),
            (400, Some("tuning.r"), "32"),
        ),
        (
            json!({"tuning": {"type": "lora", "lora_dropout": 1.0}}),
            (400, Some("tuning.lora_dropout"), "below 1"),
        ),
        (
            json!({"tuning": {"type": "lora", "target_modules": []}}),
            (400, Some("tuning.target_modules"), "1 to 1000"),
        ),
        (
            json!({"tuning": {"type": "lora", "target_modules": ["q_proj"]}}),
            (400, Some("tuning.target_modules"), "q_proj"),
        ),
        (
            json!({"tuning": {"type": "LoRA"}}),
            (400, Some("tuning.type"), "\"lora\" or \"full\""),
        ),
        (
            json!({"training": {"learning_rate": -1e-4}}),
            (400, Some("training.learning_rate"), "greater than 0"),
        ),
        (
            json!({"training": {"learning_rate": "1e-4"}}),
            (400, Some("training.learning_rate"), "must be a number"),
        ),
        (
            json!({"training": {"num_train_epochs": 0}}),
            (400, Some("training.num_train_epochs"), "greater than 0"),
        ),
        (
            json!({"training": {"max_length": 65}}),
            (400, Some("training.max_length"), "at most 64"),
        ),
        (
            json!({"training": {"eval_split": 1}}),
            (400, Some("training.eval_split"), "between 0 and 1"),
        ),
        (
            json!({"training": {"seed": -1}}),
            (400, Some("training.seed"), "from 0 to"),
        ),
        (json!({"suffix": "../x"}), (400, Some("suffix"), "letters")),
        (
            json!({"metadata": {"k": "v".repeat(513)}}),
            (400, Some("metadata"), "at most 512"),
        ),
    ];
    for (change, wanted) in rows {
        fixture.refuse_job(fixture.body(change), wanted).await?;
    }
    Ok(())
}

#[tokio::test]
async fn all_findings_are_told_at_once() -> Result<()> {
    let fixture = Fixture::start().await?;
    let body = fixture
        .body(json!({"tuning": {"type": "lora", "r": 0}, "training": {"seed": -1, "lr": 1}}));
    let (status, answer) = fixture.client().create(&body).await?;
    let message = answer["error"]["message"].as_str().context("no message")?;
    assert_eq!(
        (status.as_u16(), &answer["error"]["param"]),
        (400, &json!("tuning.r"))
    );
    for param in ["'tuning.r'", "'training.seed'", "'training.lr'"] {
        assert!(message.contains(param), "{message}");
    }
    Ok(())
}

#[tokio::test]
async fn bodies_that_are_no_job() -> Result<()> {
    let fixture = Fixture::start().await?;
    let good = fixture.body(json!({})).to_string();
    let deep = "[".repeat(200) + &"]".repeat(200);
    let large = format!("{{\"model\": \"{}\"}}", "x".repeat(1 << 20));
    let rows: [(&str, String, u16, &str); 12] = [
        ("application/json", String::new(), 400, ""),
        ("application/json", "null".to_owned(), 400, "JSON object"),
        ("application/json", "[]".to_owned(), 400, "JSON object"),
        (
            "application/json",
            good[..good.len() - 2].to_owned(),
            400,
            "",
        ),
        ("application/json", format!("{good} {good}"), 400, ""),
        (
            "application/json",
            good.replacen('{', "{\"model\": \"twice\", ", 1),
            400,
            "model",
        ),
        (
            "application/json",
            format!("{{\"model\": {deep}}}"),
            400,
            "",
        ),
        (
            "application/json",
            good.replace("\"max_steps\":1", "\"max_steps\":1,"),
            400,
            "",
        ),
        (
            "application/json",
            good.replace("\"max_steps\":1", "\"learning_rate\":NaN"),
            400,
            "",
        ),
        ("application/json", large, 413, "1"),
        ("text/plain", good.clone(), 415, "application/json"),
        (
            "application/x-www-form-urlencoded",
            "model=x".to_owned(),
            415,
            "application/json",
        ),
    ];
    for (content_type, body, status, message) in rows {
        let request = fixture
            .client()
            .request(Method::POST, "/v1/fine_tuning/jobs");
        let request = request
            .header(CONTENT_TYPE, content_type)
            .body(body.clone());
        let shown: String = body.chars().take(80).collect();
        fixture
            .refuse(request, (status, None, message))
            .await
            .context(shown)?;
    }
    Ok(())
}

#[tokio::test]
async fn data_that_cannot_be_trained_on() -> Result<()> {
    let fixture = Fixture::start().await?;
    let good = jsonl(6);
    let rows: [(&str, String, &str); 9] = [
        (
            "a.jsonl",
            format!("{good}{{\"text\": \"x\", \"lab"),
            "line 7",
        ),
        (
            "b.jsonl",
            format!("{good}{{\"label\": \"good\"}}\n"),
            "line 7",
        ),
        (
            "c.jsonl",
            format!("{good}{{\"text\": \"fine\"}}\n"),
            "line 7",
        ),
        (
            "d.jsonl",
            format!("{{\"text\": 3, \"label\": \"good\"}}\n{good}"),
            "line 1",
        ),
        (
            "e.jsonl",
            "{\"text\": \"x\", \"label\": \"good\"}\n".repeat(5),
            "at least two classes",
        ),
        ("f.jsonl", "\n\n\n".to_owned(), "row"),
        ("g.csv", "label,txt\ngood,fine\n".to_owned(), "text"),
        ("h.csv", "label,text\ngood,fine\nbad\n".to_owned(), "line 3"),
        ("i.jsonl", "[1, 2]\n[3]\n".to_owned(), "line 1"),
    ];
    for (name, content, message) in rows {
        let id = fixture.client().upload(name, content).await?;
        let body = fixture.body(json!({"training_file": id}));
        fixture
            .refuse_job(body, (400, Some("training_file"), message))
            .await
            .context(name)?;
    }
    let other = "{\"text\": \"x\", \"label\": \"middling\"}\n";
    let id = fixture.client().upload("other.jsonl", other).await?;
    let body = fixture.body(json!({"validation_file": id}));
    fixture
        .refuse_job(body, (400, Some("validation_file"), "middling"))
        .await
}

#[tokio::test]
async fn uploads_that_are_refused() -> Result<()> {
    let fixture = Fixture::start().await?;
    let part = |content: &str| Part::bytes(content.as_bytes().to_vec()).file_name("x.jsonl");
    let rows: [(Form, Wanted<'_>); 5] = [
        (
            Form::new()
                .text("purpose", "fine-tune")
                .part("file", part("")),
            (400, Some("file"), "empty"),
        ),
        (
            Form::new().part("file", part("{}\n")),
            (400, Some("purpose"), "purpose"),
        ),
        (
            Form::new().text("purpose", "fine-tune"),
            (400, Some("file"), "file"),
        ),
        (
            Form::new()
                .text("purpose", "fun")
                .part("file", part("{}\n")),
            (400, Some("purpose"), "fine-tune"),
        ),
        (
            Form::new()
                .text("purpse", "fine-tune")
                .part("file", part("{}\n")),
            (400, Some("purpse"), "purpse"),
        ),
    ];
    for (form, wanted) in rows {
        let request = fixture
            .client()
            .request(Method::POST, "/v1/files")
            .multipart(form);
        fixture.refuse(request, wanted).await?;
    }
    let request = fixture
        .client()
        .request(Method::POST, "/v1/files")
        .json(&json!({}));
    fixture
        .refuse(request, (415, None, "multipart/form-data"))
        .await
}

#[tokio::test]
async fn a_file_of_another_purpose() -> Result<()> {
    let fixture = Fixture::start().await?;
    let part = Part::bytes(jsonl(10).into_bytes()).file_name("x.jsonl");
    let form = Form::new().text("purpose", "batch").part("file", part);
    let file = fixture
        .client()
        .json(
            fixture
                .client()
                .request(Method::POST, "/v1/files")
                .multipart(form),
        )
        .await?;
    let body = fixture.body(json!({"training_file": file["id"]}));
    fixture
        .refuse_job(body, (400, Some("training_file"), "fine-tune"))
        .await
}

#[tokio::test]
async fn model_folders_that_are_not_whole() -> Result<()> {
    let fixture = Fixture::start().await?;
    let models = fixture.folders.models();
    let whole = models.join(MODEL);
    for missing in ["config.json", "model.safetensors", "tokenizer.json"] {
        let name = format!("without-{}", missing.replace('.', "-"));
        copy(&whole, &models.join(&name))?;
        fs::remove_file(models.join(&name).join(missing))?;
        let body = fixture.body(json!({"model": name}));
        fixture
            .refuse_job(body, (400, Some("model"), missing))
            .await?;
    }
    let mut gpt = config();
    gpt["model_type"] = json!("gpt_neox");
    copy(&whole, &models.join("gpt"))?;
    fs::write(models.join("gpt/config.json"), gpt.to_string())?;
    let body = fixture.body(json!({"model": "gpt"}));
    fixture
        .refuse_job(body, (400, Some("model"), "gpt_neox"))
        .await?;
    copy(&whole, &models.join("torn"))?;
    let weights = fs::read(whole.join("model.safetensors"))?;
    fs::write(
        models.join("torn/model.safetensors"),
        &weights[..weights.len() - 100],
    )?;
    let body = fixture.body(json!({"model": "torn"}));
    fixture
        .refuse_job(body, (400, Some("model"), "model.safetensors"))
        .await
}

#[tokio::test]
async fn paths_that_lead_nowhere() -> Result<()> {
    let fixture = Fixture::start().await?;
    let id = Some("id");
    let rows: [(Method, &str, Wanted<'_>); 8] = [
        (
            Method::GET,
            "/v1/fine_tuning/jobs/ftjob-none",
            (404, id, "ftjob-none"),
        ),
        (
            Method::POST,
            "/v1/fine_tuning/jobs/ftjob-none/cancel",
            (404, id, "ftjob-none"),
        ),
        (
            Method::GET,
            "/v1/fine_tuning/jobs/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
            (404, id, "no such"),
        ),
        (Method::GET, "/v1/files/file-none", (404, id, "file-none")),
        (
            Method::DELETE,
            "/v1/files/file-none",
            (404, id, "file-none"),
        ),
        (
            Method::GET,
            "/v1/models/nobody/nothing",
            (404, Some("model"), "nobody/nothing"),
        ),
        (Method::GET, "/v1/nothing", (404, None, "/openapi.json")),
        (Method::PUT, "/v1/files", (405, None, "PUT")),
    ];
    for (method, path, wanted) in rows {
        let request = fixture.client().request(method, path);
        fixture.refuse(request, wanted).await.context(path)?;
    }
    Ok(())
}

#[tokio::test]
async fn foreign_pages_are_kept_out() -> Result<()> {
    let fixture = Fixture::start().await?;
    let request = || fixture.client().request(Method::GET, "/v1/files");
    fixture
        .refuse(
            request().header("host", "evil.example"),
            (421, None, "--allow-host"),
        )
        .await?;
    fixture
        .refuse(
            request().header("origin", "http://evil.example"),
            (403, None, "Origin"),
        )
        .await?;
    let own = format!("http://{}", fixture.client().addr);
    let (status, _) = answer(request().header("origin", own)).await?;
    assert_eq!(status, StatusCode::OK);
    Ok(())
}

fn copy(from: &std::path::Path, to: &std::path::Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
