//! B50, B51, B57, B58: texts to be continued, and the templates that write them.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result};
use reqwest::{RequestBuilder, StatusCode};
use serde_json::json;

use super::{Fixture, JOBS, rows};
use crate::{client::answer, server::MODEL};

const CHATML: &str = "{% for message in messages %}[CLS] {{ message['role'] }} {{ message['content'] }} [SEP]{% endfor %}{% if add_generation_prompt %}[CLS] assistant {% endif %}";
const LLAMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/families/llama");

/// A folder with a tiny llama that can be tuned on chats.
fn write_llama(fixture: &Fixture, template: &str) -> Result<PathBuf> {
    let models = fixture.folders.models();
    let folder = models.join("acme/llama");
    fs::create_dir_all(&folder)?;
    for name in ["config.json", "model.safetensors"] {
        fs::copy(Path::new(LLAMA).join(name), folder.join(name))?;
    }
    fs::copy(
        models.join(MODEL).join("tokenizer.json"),
        folder.join("tokenizer.json"),
    )?;
    let config = json!({"eos_token": "[SEP]", "bos_token": "[CLS]"});
    fs::write(folder.join("tokenizer_config.json"), config.to_string())?;
    fs::write(folder.join("chat_template.jinja"), template)?;
    Ok(folder)
}

/// Number, a row of the file, a part of the message about line 2.
const CHATS: &str = r#"
B50 | {"messages": 1} | 'messages'
B50 | {"messages": []} | 'messages'
B50 | {"messages": null} | 'messages'
B50 | {"messages": ["x"]} | message 1
B50 | {"messages": [{"content": "x"}]} | role
B50 | {"messages": [{"role": "user"}]} | content
B50 | {"messages": [{"role": "king", "content": "x"}]} | role
B50 | {"messages": [{"role": 1, "content": "x"}]} | role
B50 | {"messages": [{"role": "user", "content": 1}]} | content
B50 | {"messages": [{"role": "user", "content": {}}]} | content
B50 | {"messages": [{"role": "user", "content": "x"}]} | assistant
B50 | {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y", "weight": 2}]} | weight
B50 | {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y", "weight": 0}]} | assistant
B50 | {"prompt": "x", "completion": "y"} | has no 'messages'
"#;

fn chat(count: usize) -> String {
    let row = json!({"messages": [{"role": "user", "content": "the film"}, {"role": "assistant", "content": "is good"}]});
    format!("{row}\n").repeat(count)
}

#[tokio::test]
async fn chats_that_are_none() -> Result<()> {
    let fixture = Fixture::start().await?;
    write_llama(&fixture, CHATML)?;
    for [number, row, message] in rows(CHATS) {
        let rows = format!("{}{row}\n{}", chat(1), chat(3));
        let file = fixture.client().upload("chats.jsonl", rows).await?;
        let body = fixture.body(json!({"model": "acme/llama", "training_file": file}));
        let shown = || format!("{number}: {row}");
        fixture
            .refuse_job(body.clone(), (400, Some("training_file"), "line 2: "))
            .await
            .with_context(shown)?;
        fixture
            .refuse_job(body, (400, Some("training_file"), message))
            .await
            .with_context(shown)?;
    }
    let message = json!({"role": "user", "content": "x"});
    let last = json!({"role": "assistant", "content": "y"});
    let mut messages = vec![message; 100_000];
    messages.push(last);
    let long = json!({"messages": messages}).to_string();
    let file = fixture.client().upload("long.jsonl", long).await?;
    let body = fixture.body(json!({"model": "acme/llama", "training_file": file}));
    ends_soon(&fixture, &body)
        .await
        .context("B50: a chat of 100,000 messages")
}

/// B51: an empty completion teaches where to stop; a prompt that fills the row leaves nothing to be learned.
#[tokio::test]
async fn texts_with_little_to_learn() -> Result<()> {
    let fixture = Fixture::start().await?;
    write_llama(&fixture, CHATML)?;
    let plan = async |row: serde_json::Value| -> Result<RequestBuilder> {
        let rows = format!("{row}\n").repeat(4);
        let file = fixture.client().upload("rows.jsonl", rows).await?;
        let training = json!({"max_length": 8, "max_steps": 1});
        let body = json!({"model": "acme/llama", "training_file": file, "training": training});
        Ok(fixture.post(&format!("{JOBS}?dry_run=true"), body.to_string()))
    };
    let empty = plan(json!({"prompt": "the film is", "completion": ""})).await?;
    let planned = fixture.client().json(empty).await?;
    assert_eq!(
        planned["label_tokens"], 4,
        "the end of each text: {planned}"
    );
    let long = "the film is very good ".repeat(100);
    let beyond = plan(json!({"prompt": long, "completion": "good"})).await?;
    let wanted = (400, Some("training_file"), "none of the first 8 of its");
    fixture.refuse(beyond, wanted).await
}

/// Number and template.
const TEMPLATES: &str = r#"
B57 | {% for i in range(10**9) %}x{% endfor %}
B57 | {% for i in range(10**4) %}{% for j in range(10**4) %}{% endfor %}{% endfor %}
B57 | {% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}
B57 | {{ 'x' * 10**9 }}
B57 | {% set ns = namespace(x='x') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}
B57 | {{ nothing.at.all }}
B57 | {{ messages[10**20] }}
B57 | {{ raise_exception('no') }}
B57 | {% include 'chat_template.jinja' %}
B57 | {% for %}
B57 | {{ [1].evil() }}
B58 | {{ ''.__class__.__mro__[1].__subclasses__() }}
B58 | {{ messages.__class__ }}{{ cycler.__init__.__globals__.os.popen('id').read() }}
B58 | {{ self._TemplateReference__context }}
"#;

#[tokio::test]
async fn templates_that_do_harm() -> Result<()> {
    let fixture = Fixture::start().await?;
    let file = fixture.client().upload("chats.jsonl", chat(4)).await?;
    for [number, template] in rows(TEMPLATES) {
        write_llama(&fixture, template)?;
        let body = fixture.body(json!({"model": "acme/llama", "training_file": file}));
        ends_soon(&fixture, &body)
            .await
            .with_context(|| format!("{number}: {template}"))?;
    }
    Ok(())
}

/// A job is refused, by whatever its model or its data have wrong, soon and with a sentence; nothing is left.
async fn ends_soon(fixture: &Fixture, body: &serde_json::Value) -> Result<()> {
    let before = fixture.state().await?;
    let began = Instant::now();
    let path = format!("{JOBS}?dry_run=true");
    let (status, said) = answer(fixture.post(&path, body.to_string())).await?;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{said}");
    let param = said["error"]["param"].as_str().context("no param")?;
    assert!(["model", "training_file"].contains(&param), "{said}");
    assert!(
        began.elapsed().as_secs() < 20,
        "after {:?}: {said}",
        began.elapsed()
    );
    assert_eq!(fixture.state().await?, before);
    Ok(())
}
