//! B55, B56: model folders, as whoever made them may have left them.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Fixture, rows};
use crate::{model::config, server::MODEL};

/// Field of `config.json`, what stands in it, a part of the message.
const CONFIGS: &str = r#"
model_type | "gpt_neox" | gpt_neox
model_type | null | no model_type
model_type | 3 | no model_type
hidden_size | 0 | hidden_size is 0
hidden_size | 31 | hidden_size
hidden_size | 1099511627776 | hidden_size is 1099511627776
hidden_size | -1 | config.json
hidden_size | 1.5 | config.json
hidden_size | "32" | config.json
num_hidden_layers | 0 | num_hidden_layers is 0
num_hidden_layers | 1000000000 | num_hidden_layers is 1000000000
num_hidden_layers | 3 | encoder.layer.2
num_attention_heads | 0 | num_attention_heads is 0
num_attention_heads | 3 | num_attention_heads
intermediate_size | 65 | intermediate
vocab_size | 0 | vocab_size is 0
vocab_size | 22 | embeddings
vocab_size | 18446744073709551615 | vocab_size
max_position_embeddings | 0 | max_position_embeddings is 0
max_position_embeddings | 65 | embeddings
type_vocab_size | 0 | type_vocab_size is 0
hidden_act | "os.system" | hidden_act
hidden_dropout_prob | 1 | dropout
layer_norm_eps | "x" | config.json
"#;

/// What the fields of a config that name code, or nothing, do: nothing.
const IGNORED: &str = r#"
auto_map | {"AutoModel": "evil.Model"}
_attn_implementation_internal | "evil/kernel"
architectures | ["Evil"]
tie_word_embeddings | false
torch_dtype | "evil"
"#;

#[tokio::test]
async fn configs_that_do_not_fit() -> Result<()> {
    let fixture = Fixture::start().await?;
    let folder = fixture.folders.models().join("acme/other");
    copy(&fixture.folders.models().join(MODEL), &folder)?;
    let write = |text: &str| fs::write(folder.join("config.json"), text);
    let with = |field: &str, value: &str| -> Result<String> {
        let mut config = config();
        config[field] = serde_json::from_str(value)?;
        Ok(config.to_string())
    };
    let refuse = async |message: &str| {
        let body = fixture.body(json!({"model": "acme/other"}));
        fixture
            .refuse_plan(body, (400, Some("model"), message))
            .await
    };
    for [field, value, message] in rows(CONFIGS) {
        write(&with(field, value)?)?;
        refuse(message)
            .await
            .with_context(|| format!("{field} = {value}"))?;
    }
    let deep = "[".repeat(1000) + &"]".repeat(1000);
    for text in [
        "",
        "{",
        "[]",
        "null",
        "{\"model_type\": \"bert\"}",
        "\u{feff}{}",
        &deep,
    ] {
        write(text)?;
        refuse("config.json").await.context(text.len())?;
    }
    for [field, value] in rows(IGNORED) {
        write(&with(field, value)?)?;
        let body = fixture.body(json!({"model": "acme/other"}));
        let path = format!("{}?dry_run=true", super::JOBS);
        let (status, answer) = crate::client::answer(fixture.post(&path, body.to_string())).await?;
        assert_eq!(status.as_u16(), 200, "{field} = {value}: {answer}");
    }
    Ok(())
}

#[tokio::test]
async fn folders_that_are_not_whole() -> Result<()> {
    let fixture = Fixture::start().await?;
    let models = fixture.folders.models();
    let whole = models.join(MODEL);
    for missing in ["config.json", "model.safetensors", "tokenizer.json"] {
        let name = format!("without-{}", missing.replace('.', "-"));
        copy(&whole, &models.join(&name))?;
        fs::remove_file(models.join(&name).join(missing))?;
        let body = fixture.body(json!({"model": name}));
        let wanted = (400, Some("model"), missing);
        fixture.refuse_job(body, wanted).await?;
    }
    copy(&whole, &models.join("torn"))?;
    let weights = fs::read(whole.join("model.safetensors"))?;
    fs::write(
        models.join("torn/model.safetensors"),
        &weights[..weights.len() - 100],
    )?;
    let body = fixture.body(json!({"model": "torn"}));
    let wanted = (400, Some("model"), "model.safetensors");
    fixture.refuse_job(body, wanted).await
}

/// B56: what is changed in a good tokenizer.
fn tokenizers(good: &Value) -> Vec<(&'static str, String)> {
    let with = |path: &str, value: Value| {
        let mut tokenizer = good.clone();
        if let Some(place) = tokenizer.pointer_mut(path) {
            *place = value;
        }
        tokenizer.to_string()
    };
    let bpe = |merges: Value| json!({"type": "BPE", "vocab": {"a": 0, "b": 1, "[UNK]": 2}, "merges": merges, "unk_token": "[UNK]"});
    vec![
        ("nothing", String::new()),
        ("no JSON", "{".to_owned()),
        ("no tokenizer", "{}".to_owned()),
        ("an unknown kind", with("/model/type", json!("Evil"))),
        (
            "a merge longer than any word",
            with("/model", bpe(json!([["a", "bbbbbbbbbbbbbbbbbbbbbb"]]))),
        ),
        (
            "a merge of unknown words",
            with("/model", bpe(json!(["x y"]))),
        ),
        ("a merge that is none", with("/model", bpe(json!(["x"])))),
        (
            "an id of 2^32",
            with("/model/vocab/good", json!(1u64 << 32)),
        ),
        (
            "an id beyond the embeddings",
            with("/model/vocab/good", json!(1_000_000)),
        ),
        ("a negative id", with("/model/vocab/good", json!(-1))),
        (
            "a regular expression that is none",
            with(
                "/pre_tokenizer",
                json!({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": false}),
            ),
        ),
    ]
}

#[tokio::test]
async fn tokenizers_that_do_not_fit() -> Result<()> {
    let fixture = Fixture::start().await?;
    let folder = fixture.folders.models().join("acme/other");
    copy(&fixture.folders.models().join(MODEL), &folder)?;
    let path = folder.join("tokenizer.json");
    let good: Value = serde_json::from_slice(&fs::read(&path)?)?;
    for (what, text) in tokenizers(&good) {
        fs::write(&path, text)?;
        let body = fixture.body(json!({"model": "acme/other"}));
        let wanted = (400, Some("model"), "token");
        fixture.refuse_plan(body, wanted).await.context(what)?;
    }
    // What only shows when a row is read is told by the row.
    let mut unknown = good.clone();
    unknown["post_processor"]["single"][0]["SpecialToken"]["id"] = json!("[NONE]");
    fs::write(&path, unknown.to_string())?;
    let body = fixture.body(json!({"model": "acme/other"}));
    let wanted = (400, Some("training_file"), "the tokenizer failed");
    fixture.refuse_plan(body, wanted).await
}

/// An expression whose search takes exponential time in some engines, widths of 0 and of more than there is.
#[tokio::test]
async fn tokenizers_that_are_only_strange() -> Result<()> {
    let fixture = Fixture::start().await?;
    let folder = fixture.folders.models().join("acme/other");
    copy(&fixture.folders.models().join(MODEL), &folder)?;
    let path = folder.join("tokenizer.json");
    let good: Value = serde_json::from_slice(&fs::read(&path)?)?;
    let hostile: String = (0..10)
        .map(|i| {
            json!({"text": format!("{}!", "a".repeat(5000)), "label": (i % 2).to_string()})
                .to_string()
                + "\n"
        })
        .collect();
    let file = fixture.client().upload("a.jsonl", hostile).await?;
    for (field, value) in [
        (
            "pre_tokenizer",
            json!({"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": false}),
        ),
        (
            "normalizer",
            json!({"type": "Replace", "pattern": {"Regex": "(a|a)*b"}, "content": "c"}),
        ),
        (
            "truncation",
            json!({"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 9}),
        ),
        (
            "padding",
            json!({"strategy": {"Fixed": 1_000_000_000}, "direction": "Right", "pad_to_multiple_of": 0, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}),
        ),
    ] {
        let mut tokenizer = good.clone();
        tokenizer[field] = value;
        fs::write(&path, tokenizer.to_string())?;
        let change =
            json!({"model": "acme/other", "training_file": file, "validation_file": fixture.train});
        let path = format!("{}?dry_run=true", super::JOBS);
        let began = std::time::Instant::now();
        let (status, answer) =
            crate::client::answer(fixture.post(&path, fixture.body(change).to_string())).await?;
        assert!(status.as_u16() < 500, "{field}: {answer}");
        assert!(began.elapsed().as_secs() < 20, "{field}: {answer}");
        fixture.client().get("/healthz").await.ok();
        fixture.state().await.context(field)?;
    }
    Ok(())
}

pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
