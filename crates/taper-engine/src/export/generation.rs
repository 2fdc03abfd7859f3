//! How texts of the tuned model are written: `generation_config.json`.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::Export;
use crate::{Result, tasks::task, text_file::write_json};

/// Tokens that transformers takes from `config.json` where there is no file of its own.
const TOKENS: [&str; 3] = ["bos_token_id", "eos_token_id", "pad_token_id"];

/// The base's settings, with all tokens at which the tuned model has to stop.
pub(super) fn write_generation(export: &Export<'_>, dir: &Path) -> Result<()> {
    if !task(export.data.task).writes() {
        return Ok(());
    }
    let settings = settings(
        &export.data.setup.generation,
        &export.folder().config,
        &export.data.ends,
    );
    write_json(&dir.join("generation_config.json"), &settings)
}

fn settings(base: &Value, config: &Value, ends: &[u32]) -> Value {
    let base = base.as_object().cloned();
    let mut settings = base.unwrap_or_else(|| of_config(config));
    // One as a number, since older readers know no list.
    let ends = match ends {
        [] => return Value::Object(settings),
        [end] => json!(end),
        ends => json!(ends),
    };
    settings.insert("eos_token_id".to_owned(), ends);
    Value::Object(settings)
}

fn of_config(config: &Value) -> Map<String, Value> {
    let tokens = TOKENS.into_iter().filter_map(|name| {
        let token = config.get(name).filter(|token| !token.is_null())?;
        Some((name.to_owned(), token.clone()))
    });
    tokens.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bases_settings_stay_and_the_ends_are_all_there() {
        let base = json!({"do_sample": true, "eos_token_id": 2, "top_p": 0.9});
        assert_eq!(
            settings(&base, &json!({"eos_token_id": 9}), &[2, 7]),
            json!({"do_sample": true, "eos_token_id": [2, 7], "top_p": 0.9})
        );
    }

    #[test]
    fn without_a_file_the_tokens_are_those_of_the_configuration() {
        let config =
            json!({"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": null, "hidden_size": 16});
        assert_eq!(
            settings(&Value::Null, &config, &[2]),
            json!({"bos_token_id": 1, "eos_token_id": 2})
        );
    }
}
