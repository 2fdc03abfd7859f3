//! The base is the base: a model folder means what transformers 5.23 reads in it, or is refused.

use std::{fs, path::Path};

use candle_core::{Device, Tensor};
use serde_json::{Value, json};
use taper_autodiff::Cpu;
use taper_core::{Full, Method};

use super::families::golden;
use crate::{
    Result,
    data::{Batch, Encoded, Targets},
    methods::tuner,
    model_folder::{ModelFolder, Weights, write_safetensors},
    models::{Head, Model, Pass},
    tape::Tape,
};

const EMBEDDINGS: &str = "model.embed_tokens.weight";
const OUTPUT: &str = "lm_head.weight";

type Tensors = Vec<(String, Tensor)>;

/// A copy of the golden Llama with another configuration and other weights.
fn folder(change: impl FnOnce(&mut Value, &mut Tensors)) -> tempfile::TempDir {
    let (from, to) = (
        golden().join("families/llama"),
        tempfile::tempdir().unwrap(),
    );
    let config = fs::read(from.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    let weights = Weights::open(&from.join("model.safetensors")).unwrap();
    let tensor = |name: &str| (name.to_owned(), weights.get(name, &Device::Cpu).unwrap());
    let mut tensors: Tensors = weights.names().map(tensor).collect();
    change(&mut config, &mut tensors);
    fs::write(to.path().join("config.json"), config.to_string()).unwrap();
    write_safetensors(&to.path().join("model.safetensors"), &tensors).unwrap();
    to
}

fn logits(dir: &Path) -> Result<Vec<f32>> {
    let folder = ModelFolder::without_tokenizer(dir)?;
    let model = Model::load(
        &folder,
        &Method::Full(Full {}),
        Head::Vocabulary,
        &Device::Cpu,
        0,
    )?;
    let data = Encoded {
        lines: vec![0],
        ids: vec![vec![3, 1, 4, 1, 5, 9, 2, 6]],
        targets: Targets::Tokens(vec![vec![true; 8]]),
        truncated: 0,
        virtual_tokens: 0,
    };
    let tape = Tape::idle(std::sync::Arc::new(Cpu));
    let pass = Pass {
        tape: &tape,
        rng: None,
    };
    let logits = model.all_logits(&pass, &Batch::of(&data, &[0]))?;
    Ok(logits.flatten_all()?.to_vec1()?)
}

fn named(tensors: &Tensors, name: &str) -> Tensor {
    let found = tensors.iter().find(|(found, _)| found == name);
    found.unwrap().1.clone()
}

/// Gives the folder this output table, or none.
fn put_output(tensors: &mut Tensors, table: Option<Tensor>) {
    tensors.retain(|(name, _)| name != OUTPUT);
    tensors.extend(table.map(|table| (OUTPUT.to_owned(), table)));
}

/// Another table than the embeddings.
fn other(tensors: &Tensors) -> Tensor {
    (named(tensors, EMBEDDINGS) * -0.5).unwrap()
}

#[test]
fn an_output_table_of_other_values_is_used_whatever_the_flag_says() {
    let [flagged, plain] = [true, false].map(|tied| {
        let dir = folder(|config, tensors| {
            config["tie_word_embeddings"] = json!(tied);
            let table = other(tensors);
            put_output(tensors, Some(table));
        });
        logits(dir.path()).unwrap()
    });
    assert_eq!(flagged, plain);
    let tied = folder(|config, tensors| {
        config["tie_word_embeddings"] = json!(true);
        put_output(tensors, None);
    });
    assert_ne!(flagged, logits(tied.path()).unwrap());
}

#[test]
fn tied_tables_may_be_stored_once_under_either_name_or_twice() {
    let once = folder(|config, tensors| {
        config["tie_word_embeddings"] = json!(true);
        put_output(tensors, None);
    });
    let expected = logits(once.path()).unwrap();
    let twice = folder(|config, tensors| {
        config["tie_word_embeddings"] = json!(true);
        let table = named(tensors, EMBEDDINGS).copy().unwrap();
        put_output(tensors, Some(table));
    });
    assert_eq!(logits(twice.path()).unwrap(), expected);
    let only_output = folder(|config, tensors| {
        config["tie_word_embeddings"] = json!(true);
        let table = named(tensors, EMBEDDINGS);
        put_output(tensors, Some(table));
        tensors.retain(|(name, _)| name != EMBEDDINGS);
    });
    assert_eq!(logits(only_output.path()).unwrap(), expected);
}

#[test]
fn tables_that_are_not_stored_are_not_made_up() {
    for (missing, tied) in [(EMBEDDINGS, false), (OUTPUT, false)] {
        let dir = folder(|config, tensors| {
            config["tie_word_embeddings"] = json!(tied);
            let table = other(tensors);
            put_output(tensors, Some(table));
            tensors.retain(|(name, _)| name != missing);
        });
        let error = logits(dir.path()).unwrap_err().to_string();
        assert!(error.contains(missing), "{error}");
    }
}

#[test]
fn what_a_wrapper_puts_before_all_names_is_no_part_of_them() {
    let expected = logits(folder(|_, _| ()).path()).unwrap();
    for prefix in [
        "_orig_mod.",
        "module.",
        "_orig_mod.module.",
        "base_model.model.",
        "language_model.",
    ] {
        let dir = folder(|_, tensors| {
            for (name, _) in tensors {
                *name = format!("{prefix}{name}");
            }
        });
        assert_eq!(logits(dir.path()).unwrap(), expected, "{prefix}");
    }
}

#[test]
fn a_prefix_before_some_names_is_named() {
    let dir = folder(|_, tensors| {
        for (name, _) in tensors.iter_mut().filter(|(name, _)| name == EMBEDDINGS) {
            *name = format!("text.{name}");
        }
    });
    let error = logits(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("text.model.embed_tokens.weight") && error.contains("'text.'"),
        "{error}"
    );
}

#[test]
fn tied_tables_are_called_tied() {
    let dir = folder(|config, tensors| {
        config["tie_word_embeddings"] = json!(true);
        put_output(tensors, None);
    });
    let arch = ModelFolder::without_tokenizer(dir.path()).unwrap().arch;
    for (setting, name) in [
        ("target_modules", "lm_head"),
        ("modules_to_save", "lm_head"),
        ("modules_to_save", "embed_tokens"),
    ] {
        let method = json!({"type": "lora", setting: [name]});
        let method: Method = serde_json::from_value(method).unwrap();
        let error = tuner(&method, arch.layers())
            .unwrap()
            .check(&arch)
            .unwrap_err()
            .to_string();
        assert!(error.contains("tied") && error.contains(setting), "{error}");
    }
}

#[test]
fn a_head_that_is_not_there_is_missed_by_its_name_and_the_flag_s() {
    let dir = folder(|config, tensors| {
        config["tie_word_embeddings"] = json!(false);
        put_output(tensors, None);
    });
    let error = logits(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains(OUTPUT) && error.contains("tie_word_embeddings"),
        "{error}"
    );
}
