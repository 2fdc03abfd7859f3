use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Fixture, Wanted};

/// Each row changes a good body, which must then be refused.
async fn refuse_all(rows: &[(Value, Wanted<'_>)]) -> Result<()> {
    let fixture = Fixture::start().await?;
    for (change, wanted) in rows {
        let body = fixture.body(change.clone());
        fixture.refuse_job(body, *wanted).await?;
    }
    Ok(())
}

#[tokio::test]
async fn names_of_what_is_not_there() -> Result<()> {
    let file = "file-none";
    refuse_all(&[
        (
            json!({"training_file": file}),
            (400, Some("training_file"), file),
        ),
        (
            json!({"validation_file": file}),
            (400, Some("validation_file"), file),
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
            (400, Some("model"), "missing required"),
        ),
        (
            json!({"model": 3}),
            (400, Some("model"), "must be a string"),
        ),
        (
            json!({"trainning": {}}),
            (400, Some("trainning"), "did you mean 'training'?"),
        ),
        (json!({"suffix": "../x"}), (400, Some("suffix"), "letters")),
        (
            json!({"metadata": {"k": "v".repeat(513)}}),
            (400, Some("metadata"), "512"),
        ),
    ])
    .await
}

#[tokio::test]
async fn fields_of_tuning() -> Result<()> {
    let rows = [
        ("type", json!("LoRA"), "\"lora\" or \"full\""),
        ("r", json!(0), "from 1 to"),
        ("r", json!(33), "32"),
        ("r", json!("8"), "whole number"),
        ("lora_alpha", json!(0), "greater than 0"),
        ("lora_dropout", json!(1.0), "below 1"),
        ("target_modules", json!([]), "1 to 1000"),
        ("target_modules", json!(["q_proj"]), "q_proj"),
        ("lora_apha", json!(8), "did you mean 'tuning.lora_alpha'?"),
    ];
    nested("tuning", json!({"type": "lora"}), &rows).await
}

#[tokio::test]
async fn fields_of_training() -> Result<()> {
    let rows = [
        ("learning_rate", json!(-1e-4), "greater than 0"),
        ("learning_rate", json!(0), "greater than 0"),
        ("learning_rate", json!("1e-4"), "must be a number"),
        ("num_train_epochs", json!(0), "greater than 0"),
        ("max_steps", json!(0), "at least 1"),
        ("per_device_train_batch_size", json!(0), "from 1 to"),
        ("max_length", json!(65), "at most 64"),
        ("eval_split", json!(1), "between 0 and 1"),
        ("seed", json!(-1), "from 0 to"),
        ("lr", json!(1), "known here"),
    ];
    nested("training", json!({}), &rows).await
}

/// Sets a field of an object of the body, row by row.
async fn nested(object: &str, good: Value, rows: &[(&str, Value, &str)]) -> Result<()> {
    let fixture = Fixture::start().await?;
    for (field, value, message) in rows {
        let mut change = json!({ object: good });
        change[object][*field] = value.clone();
        let param = format!("{object}.{field}");
        let wanted = (400, Some(param.as_str()), *message);
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
