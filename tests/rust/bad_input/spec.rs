//! B6 to B36: what only model, data and server can tell of a job's specification, and that the findings of `taper-core`, whose table is
//! there, reach a client.

use anyhow::{Context, Result};
use reqwest::StatusCode;
use serde_json::json;

use super::{Fixture, JOBS, rows};
use crate::{
    client::answer,
    model::jsonl,
    server::{Folders, Server, binary},
};

/// Number, field, what stands in it, a part of the message: 400, with the field as `param`.
const FIELDS: &str = r#"
B6 | trainning | {} | did you mean 'training'?
B15 | tuning.r | 0 | from 1 to 4096, not 0
B36 | __proto__ | {} | unknown parameter: '__proto__'
B14 | training.max_length | 65 | the model takes at most 64 tokens
B15 | tuning.r | 33 | 32
B17 | tuning.target_modules | ["q_proj"] | q_proj
B17 | tuning.target_modules | "(" | regular expression
B17 | tuning.target_modules | "((a{1000}){1000}){1000}" | regular expression
B18 | training.warmup_steps | 1000000 | but the run has only 6 steps
B19 | training.eval_split | 0.001 | leaves no validation row
B26 | model | "nobody/nothing" | does not exist
B26 | model | "../tiny-bert" | does not exist
B26 | model | "ft:acme/tiny-bert:default::00000000" | does not exist
B27 | training_file | "file-none" | the file 'file-none' does not exist
B27 | training_file | "" | does not exist
B27 | validation_file | "file-none" | the file 'file-none' does not exist
B29 | tuning.task_type | "CAUSAL_LM" | the training data is for SEQ_CLS
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

/// Too long for a table.
#[tokio::test]
async fn fields_that_are_too_long() -> Result<()> {
    let fixture = Fixture::start().await?;
    let long = "x".repeat(8192);
    for (number, field) in [("B26", "model"), ("B27", "training_file")] {
        let request = fixture.post(JOBS, fixture.with(field, &json!(long).to_string()));
        let wanted = (400, Some(field), "does not exist");
        fixture.refuse(request, wanted).await.context(number)?;
    }
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
