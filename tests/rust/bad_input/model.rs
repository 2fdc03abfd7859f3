use std::{fs, path::Path};

use anyhow::Result;
use serde_json::json;

use super::Fixture;
use crate::{model::config, server::MODEL};

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

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
