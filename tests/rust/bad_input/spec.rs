//! B6, B10 to B36: the specification of a job.

use anyhow::{Context, Result};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Fixture, JOBS, rows};
use crate::{
    client::answer,
    model::jsonl,
    server::{Folders, Server, binary},
};

/// Number, field, what stands in it, a part of the message: 400, with the field as `param`.
const FIELDS: &str = r#"
B6 | learnig_rate | 1 | unknown parameter
B6 | trainning | {} | did you mean 'training'?
B6 | tuning.lora_apha | 8 | did you mean 'tuning.lora_alpha'?
B6 | training.lr | 1 | known here: num_train_epochs
B10 | training.learning_rate | 0 | greater than 0 and at most 10, not 0
B10 | training.learning_rate | -1e-4 | greater than 0
B10 | training.learning_rate | 1e308 | at most 10
B10 | training.learning_rate | 1e-400 | greater than 0
B10 | training.learning_rate | "1e-4" | must be a number
B10 | training.learning_rate | [] | must be a number
B11 | training.num_train_epochs | 0 | greater than 0 and at most 10000, not 0
B11 | training.num_train_epochs | -1 | greater than 0
B11 | training.num_train_epochs | 2147483648 | at most 10000
B11 | training.max_steps | 0 | must be -1 (off) or at least 1, not 0
B11 | training.max_steps | -2 | from -1 to 1000000000, not -2
B11 | training.max_steps | 1.5 | must be a whole number
B11 | training.max_steps | 1e3 | must be a whole number
B11 | training.max_steps | 2147483648 | from -1 to 1000000000
B11 | training.max_steps | 9007199254740993 | from -1 to 1000000000
B11 | training.max_steps | 18446744073709551616 | must be a whole number
B11 | hyperparameters.n_epochs | 0 | from 1 to 50, not 0
B11 | hyperparameters.n_epochs | 1.5 | must be a whole number
B11 | method.supervised.hyperparameters.n_epochs | 51 | from 1 to 50, not 51
B12 | training.per_device_train_batch_size | 0 | from 1 to 65536, not 0
B12 | training.per_device_train_batch_size | 4294967296 | from 1 to 65536
B12 | hyperparameters.batch_size | 0 | from 1 to 256, not 0
B13 | training.gradient_accumulation_steps | 0 | from 1 to 65536, not 0
B13 | training.gradient_accumulation_steps | 9223372036854775807 | from 1 to 65536
B14 | training.max_length | 0 | from 2 to 1000000, not 0
B14 | training.max_length | 1 | from 2 to 1000000, not 1
B14 | training.max_length | 65 | the model takes at most 64 tokens
B14 | training.max_length | 9223372036854775808 | must be a whole number
B15 | tuning.r | 0 | from 1 to 4096, not 0
B15 | tuning.r | -1 | from 1 to 4096, not -1
B15 | tuning.r | 33 | 32
B15 | tuning.r | 1048576 | from 1 to 4096
B16 | tuning.lora_alpha | 0 | greater than 0, not 0
B16 | tuning.lora_alpha | 1e300 | greater than 0
B16 | tuning.lora_dropout | -0.1 | from 0 to below 1, not -0.1
B16 | tuning.lora_dropout | 1.0 | from 0 to below 1, not 1.0
B16 | tuning.lora_dropout | 0.99999999 | from 0 to below 1, not 0.99999999
B16 | tuning.lora_dropout | 2 | from 0 to below 1, not 2
B17 | tuning.target_modules | [] | a list of 1 to 1000 module names
B17 | tuning.target_modules | [""] | a list of 1 to 1000 module names
B17 | tuning.target_modules | ["q_proj"] | q_proj
B17 | tuning.target_modules | "(" | regular expression
B17 | tuning.target_modules | "((a{1000}){1000}){1000}" | regular expression
B18 | training.warmup_steps | -1 | of at least 0, not -1
B18 | training.warmup_steps | 1000000 | but the run has only 6 steps
B18 | training.warmup_ratio | 1 | from 0 to below 1, not 1
B19 | training.eval_split | 0 | between 0 and 1, not 0
B19 | training.eval_split | 1 | between 0 and 1, not 1
B19 | training.eval_split | 1.1 | between 0 and 1, not 1.1
B19 | training.eval_split | 0.001 | leaves no validation row
B20 | training.save_steps | 0 | at least 1
B20 | training.save_steps | -5 | at least 1
B20 | training.logging_steps | 0 | at least 1
B20 | training.logging_steps | 1.5 | at least 1
B20 | training.eval_steps | -1 | at least 1
B20 | training.eval_steps | 5 | needs validation data
B21 | seed | -1 | from 0 to 2147483647, not -1
B21 | seed | 2147483648 | from 0 to 2147483647
B21 | training.seed | 18446744073709551616 | must be a whole number
B23 | suffix | "" | takes 1 to 64 letters
B23 | suffix | "a\nb" | takes 1 to 64 letters
B23 | suffix | "a\u0000" | takes 1 to 64 letters
B23 | suffix | "<script>" | takes 1 to 64 letters
B23 | suffix | "\u202egnp" | takes 1 to 64 letters
B23 | suffix | "👩‍👩‍👧" | takes 1 to 64 letters
B23 | suffix | "../x" | takes 1 to 64 letters
B23 | suffix | "'; DROP TABLE jobs" | takes 1 to 64 letters
B23 | suffix | "\u001b[31m" | takes 1 to 64 letters
B24 | metadata | {"k": 1} | takes strings
B24 | metadata | [] | must be an object
B26 | model | "nobody/nothing" | does not exist
B26 | model | "../tiny-bert" | does not exist
B26 | model | "ft:acme/tiny-bert:default::00000000" | does not exist
B26 | model | null | missing required parameter: 'model'
B26 | model | 3 | must be a string
B27 | training_file | "file-none" | the file 'file-none' does not exist
B27 | training_file | "" | does not exist
B27 | validation_file | "file-none" | the file 'file-none' does not exist
B29 | tuning.task_type | "seq_cls" | "SEQ_CLS"
B29 | tuning.task_type | "CAUSAL_LM" | the training data is for SEQ_CLS
B29 | training.lr_scheduler_type | "Linear" | "linear"
B29 | method.type | "Supervised" | "supervised"
B34 | seed | "1" | must be a whole number
B34 | tuning.r | "8" | must be a whole number
B34 | tuning.r | "auto" | must be a whole number
B34 | tuning.use_rslora | 1 | must be true or false, not 1
B34 | training.packing | 0 | must be true or false, not 0
B34 | training.max_length | "64" | must be a whole number
B36 | __proto__ | {} | unknown parameter: '__proto__'
B36 | constructor | {} | unknown parameter: 'constructor'
B36 | tuning.__proto__ | {"r": 1} | unknown parameter: 'tuning.__proto__'
"#;

/// Number, field, what stands in it: no error, though it looks like one.
const LEGAL: &str = r#"
B6 | integrations | []
B10 | training.learning_rate | 1e-12
B11 | training.num_train_epochs | 1.5
B12 | training.per_device_train_batch_size | 65536
B13 | training.gradient_accumulation_steps | 65536
B17 | tuning.target_modules | ["query", "query"]
B17 | tuning.target_modules | ".*query"
B19 | training.eval_split | 0.99
B24 | metadata | {"a": "\u0000\u001b[31m\u202e<script>'; DROP TABLE jobs"}
B34 | hyperparameters.n_epochs | "auto"
B34 | hyperparameters.learning_rate_multiplier | "auto"
"#;

#[tokio::test]
async fn fields_that_are_wrong() -> Result<()> {
    let fixture = Fixture::start().await?;
    for [number, field, json, message] in rows(FIELDS) {
        let request = fixture.post(JOBS, fixture.with(field, json));
        let wanted = (400, Some(field), message);
        let shown = || format!("{number}: {field} = {json}");
        fixture.refuse(request, wanted).await.with_context(shown)?;
    }
    Ok(())
}

#[tokio::test]
async fn fields_that_only_look_wrong() -> Result<()> {
    let fixture = Fixture::start().await?;
    for [number, field, json] in rows(LEGAL) {
        let path = format!("{JOBS}?dry_run=true");
        let (status, body) = answer(fixture.post(&path, fixture.with(field, json))).await?;
        assert_eq!(status, StatusCode::OK, "{number}: {field} = {json}: {body}");
    }
    Ok(())
}

/// Too long or too many for a table.
#[tokio::test]
async fn fields_that_are_too_long() -> Result<()> {
    let fixture = Fixture::start().await?;
    let long = |length: usize| "x".repeat(length);
    let pairs =
        |count: usize| -> Value { (0..count).map(|i| (i.to_string(), json!(""))).collect() };
    let rows = [
        (
            "B17",
            "tuning.target_modules",
            json!(vec!["query"; 10_000]),
            "1 to 1000",
        ),
        (
            "B23",
            "suffix",
            json!(long(10_000)),
            "takes 1 to 64 letters",
        ),
        ("B24", "metadata", pairs(17), "at most 16 pairs, not 17"),
        ("B24", "metadata", pairs(1000), "at most 16 pairs, not 1000"),
        ("B24", "metadata", json!({"k": long(513)}), "512"),
        ("B24", "metadata", json!({long(65): "v"}), "64"),
        ("B24", "metadata", json!({"k": long(1_000_000)}), "512"),
        ("B26", "model", json!(long(8192)), "does not exist"),
        ("B27", "training_file", json!(long(8192)), "does not exist"),
    ];
    for (number, field, value, message) in rows {
        let request = fixture.post(JOBS, fixture.with(field, &value.to_string()));
        let wanted = (400, Some(field), message);
        fixture.refuse(request, wanted).await.context(number)?;
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

/// B22: `priority` is set by a change of the job.
#[tokio::test]
async fn priorities_that_there_are_not() -> Result<()> {
    let fixture = Fixture::start().await?;
    let body = json!({"training": {"num_train_epochs": 10_000}});
    let job = fixture.client().submit(&fixture.train, body).await?;
    fixture.client().wait(&job, "running").await?;
    for priority in [
        "101",
        "-101",
        "1.5",
        "\"1\"",
        "1e400",
        "18446744073709551616",
    ] {
        let request = fixture
            .client()
            .request(Method::PATCH, &format!("{JOBS}/{job}"));
        let request = request.header("content-type", "application/json");
        let (status, body) = answer(request.body(format!("{{\"priority\": {priority}}}"))).await?;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{priority}: {body}");
    }
    assert_eq!(fixture.client().job(&job).await?["priority"], 0);
    Ok(())
}

/// B30: a job that can never fit is refused with its estimate.
#[tokio::test]
async fn a_job_beyond_the_memory() -> Result<()> {
    let folders = Folders::new()?;
    let mut command = folders.command()?;
    command.args(["--memory-limit-mib", "1"]);
    let server = Server::start(command).await?;
    let train = server.client.upload("train.jsonl", jsonl(20)).await?;
    let fixture = Fixture {
        folders,
        server,
        train,
    };
    let wanted = (
        400,
        Some("training.per_device_train_batch_size"),
        "jobs may take 1 MiB",
    );
    fixture.refuse_job(fixture.body(json!({})), wanted).await
}

/// B31: a run that may take no time at all is nobody's wish.
#[tokio::test]
async fn settings_that_are_wrong() -> Result<()> {
    for (flag, value) in [
        ("--run-timeout", "0"),
        ("--run-timeout", "-1"),
        ("--workers", "0"),
        ("--connections", "0"),
        ("--listen", "nowhere"),
    ] {
        let mut command = tokio::process::Command::new(binary()?);
        let ended = command
            .args(["serve", &format!("{flag}={value}")])
            .output()
            .await?;
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{flag} {value}: {said}");
        assert!(said.contains(flag), "{said}");
    }
    Ok(())
}

/// B32: the key of a request that is repeated.
#[tokio::test]
async fn idempotency_keys() -> Result<()> {
    let fixture = Fixture::start().await?;
    let path = format!("{JOBS}?dry_run=true");
    let long = "k".repeat(300);
    for key in [&long[..], "", "a b", "schlüssel"] {
        let request = fixture.post(&path, fixture.body(json!({})).to_string());
        let wanted = (400, Some("Idempotency-Key"), "1 to 255 printable ASCII");
        fixture
            .refuse(request.header("Idempotency-Key", key.as_bytes()), wanted)
            .await?;
    }
    let send = |change: Value| {
        fixture
            .post(JOBS, fixture.body(change).to_string())
            .header("Idempotency-Key", "one")
    };
    let (status, _) = answer(send(json!({}))).await?;
    assert_eq!(status, StatusCode::OK);
    fixture.client().get(JOBS).await?;
    let (status, body) = answer(send(json!({"seed": 2}))).await?;
    assert_eq!(
        (status.as_u16(), &body["error"]["code"]),
        (400, &json!("idempotency_key_reused"))
    );
    assert_eq!(
        fixture.client().get(JOBS).await?["data"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    Ok(())
}
