//! Adapters that taper writes, laid beside those that PEFT wrote for the same model and settings (`tests/golden/README.md`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use regex::Regex;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};
use taper_core::{DataFile, Device, JobSpec, Method, RunSpec, TaskType};

use super::training::train;
use crate::{
    adapter::read_adapter,
    cache::Cache,
    prepare::{Models, inspect},
};

/// A golden adapter and where its base lies.
struct Golden {
    family: PathBuf,
    adapter: PathBuf,
    task: TaskType,
}

fn goldens() -> Vec<Golden> {
    let families = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/families");
    let folders = |dir: &Path| {
        let paths = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        paths.filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    let mut goldens = Vec::new();
    for family in folders(&families) {
        for adapter in folders(&family) {
            let name = adapter.file_name().unwrap().to_str().unwrap();
            let task = if name.starts_with("seq_cls") {
                TaskType::SeqCls
            } else {
                TaskType::CausalLm
            };
            goldens.push(Golden {
                family: family.clone(),
                adapter,
                task,
            });
        }
    }
    goldens
}

/// A word for each of the 64 tokens of the golden models.
fn tokenizer() -> Value {
    let words: Map<String, Value> = (0..64).map(|id| (format!("w{id}"), json!(id))).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "unk_token": "w3", "vocab": words},
    })
}

fn rows(task: TaskType) -> String {
    let row = |i: usize| match task {
        TaskType::SeqCls => json!({"text": format!("w{} w9", 10 + i), "label": i % 3}),
        TaskType::CausalLm => {
            json!({"prompt": format!("w{} w9", 10 + i), "completion": format!("w{}", 20 + i)})
        }
    };
    (0..6).map(|i| format!("{}\n", row(i))).collect()
}

/// Trains an adapter with the settings of a golden one; returns its folder.
fn write(golden: &Golden, dir: &Path) -> PathBuf {
    let model_dir = dir.join("model");
    fs::create_dir_all(&model_dir).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(golden.family.join(name), model_dir.join(name)).unwrap();
    }
    fs::write(model_dir.join("tokenizer.json"), tokenizer().to_string()).unwrap();
    let data = dir.join("rows.jsonl");
    fs::write(&data, rows(golden.task)).unwrap();
    let (method, _) = read_adapter(&golden.adapter).unwrap();
    let kind = if matches!(method, Method::Lora(_)) {
        "lora"
    } else {
        "prompt_tuning"
    };
    let body = json!({
        "model": golden.family.file_name().unwrap().to_str(), "training_file": "rows",
        "tuning": {"type": kind}, "training": {"max_steps": 2, "per_device_train_batch_size": 3},
    });
    let mut spec = JobSpec::parse(&body).unwrap();
    spec.tuning.method = method;
    let mut run = RunSpec {
        job_id: "golden".to_owned(),
        attempt: 1,
        spec,
        model_dir,
        start_from: None,
        training_file: DataFile {
            id: "rows".to_owned(),
            filename: "rows.jsonl".to_owned(),
            path: data,
            sha256: String::new(),
        },
        validation_file: None,
        run_dir: dir.join("run"),
        device: Device::Cpu,
        threads: 1,
        resume_from: None,
        pause_at_step: None,
    };
    run.spec = inspect(&Models::new(), &Cache::new(1), &run).unwrap();
    train(&run);
    run.output_dir().join("adapter")
}

fn layout(adapter: &Path) -> BTreeMap<String, (Dtype, Vec<usize>)> {
    let bytes = fs::read(adapter.join("adapter_model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let entry = |(name, view): (&str, safetensors::tensor::TensorView<'_>)| {
        (name.to_owned(), (view.dtype(), view.shape().to_vec()))
    };
    tensors.iter().map(entry).collect()
}

fn config(adapter: &Path) -> Map<String, Value> {
    serde_json::from_slice(&fs::read(adapter.join("adapter_config.json")).unwrap()).unwrap()
}

/// A list of PEFT's is a set: its order has no meaning, and PEFT itself names some modules twice.
fn as_set(value: &Value) -> Value {
    let Some(list) = value.as_array() else {
        return value.clone();
    };
    let set: BTreeSet<&str> = list.iter().filter_map(Value::as_str).collect();
    if set.is_empty() {
        value.clone()
    } else {
        json!(set)
    }
}

/// What the adapter of each module is multiplied by, after PEFT's rules.
fn scales(
    config: &Map<String, Value>,
    layout: &BTreeMap<String, (Dtype, Vec<usize>)>,
) -> BTreeMap<String, String> {
    let of = |patterns: &str, path: &str, default: &Value| {
        let patterns = config.get(patterns).and_then(Value::as_object);
        let patterns = patterns.into_iter().flatten();
        let mut fits = patterns.filter(|(key, _)| {
            Regex::new(&format!(r"^(.*\.)?({key})$"))
                .unwrap()
                .is_match(path)
        });
        fits.next()
            .map_or(default, |(_, value)| value)
            .as_f64()
            .unwrap()
    };
    let modules = layout.keys().filter_map(|name| {
        name.strip_prefix("base_model.model.")?
            .strip_suffix(".lora_A.weight")
    });
    let scale = |path: &str| {
        let r = of("rank_pattern", path, &config["r"]);
        let alpha = of("alpha_pattern", path, &config["lora_alpha"]);
        let divisor = if config.get("use_rslora") == Some(&json!(true)) {
            r.sqrt()
        } else {
            r
        };
        (path.to_owned(), format!("{:.9}", alpha / divisor))
    };
    modules.map(scale).collect()
}

/// What PEFT 0.9 knows of an adapter's settings; it refuses a file with any other.
const KNOWN: [&str; 24] = [
    "alpha_pattern",
    "base_model_name_or_path",
    "bias",
    "fan_in_fan_out",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "num_attention_heads",
    "num_layers",
    "num_transformer_submodules",
    "num_virtual_tokens",
    "peft_type",
    "prompt_tuning_init",
    "prompt_tuning_init_text",
    "r",
    "rank_pattern",
    "target_modules",
    "task_type",
    "token_dim",
    "tokenizer_name_or_path",
    "use_dora",
    "use_rslora",
];

/// Whether PEFT takes this for a setting that is not there.
fn is_default(key: &str, value: &Value) -> bool {
    match key {
        "init_lora_weights" => *value == true,
        "megatron_core" => *value == "megatron.core",
        "qalora_group_size" => *value == 16,
        // Written for people.
        "peft_version" => true,
        // PEFT puts the heads of a classifier there by itself.
        "modules_to_save" => value
            .as_array()
            .is_none_or(|modules| modules.iter().all(|m| *m == "classifier" || *m == "score")),
        _ => match value {
            Value::Null => true,
            Value::Bool(on) => !on,
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            Value::Number(_) | Value::String(_) => false,
        },
    }
}

fn compare_configs(golden: &Golden, written: &Path) {
    let label = golden.adapter.display();
    let (theirs, ours) = (config(&golden.adapter), config(written));
    let is_lora = theirs["peft_type"] == "LORA";
    for key in ours.keys() {
        let known = KNOWN.contains(&key.as_str());
        // A prompt that has modules beside it needs a later version of PEFT.
        assert!(known || key == "modules_to_save", "{label}: {key}");
    }
    if !is_lora {
        let heads_only = is_default("modules_to_save", &theirs["modules_to_save"]);
        assert_eq!(ours.contains_key("modules_to_save"), !heads_only, "{label}");
    }
    if is_lora {
        let layout = layout(written);
        assert_eq!(scales(&ours, &layout), scales(&theirs, &layout), "{label}");
        assert!(
            ours["lora_alpha"].is_u64(),
            "{label}: {}",
            ours["lora_alpha"]
        );
    }
    for (key, value) in &theirs {
        // Ranks and alphas by pattern are written by whole paths: the scales above are what they mean.
        match ours.get(key) {
            _ if ["rank_pattern", "alpha_pattern"].contains(&key.as_str()) => {}
            Some(found) => assert_eq!(as_set(found), as_set(value), "{label}: {key}"),
            None => assert!(is_default(key, value), "{label}: {key} is {value}"),
        }
    }
}

#[test]
fn adapters_are_read_with_the_settings_that_were_written() {
    let goldens = goldens();
    let is_lora = |golden: &&Golden| config(&golden.adapter)["peft_type"] == "LORA";
    for golden in goldens.iter().filter(is_lora) {
        let dir = tempfile::tempdir().unwrap();
        let written = write(golden, dir.path());
        let read = |adapter: &Path| match read_adapter(adapter).unwrap().0 {
            Method::Lora(lora) => (lora.r, lora.lora_alpha, lora.use_rslora),
            other => panic!("{other:?}"),
        };
        let label = golden.adapter.display();
        assert_eq!(read(&written), read(&golden.adapter), "{label}");
    }
}

#[test]
fn adapters_have_the_tensors_and_the_settings_of_pefts_own() {
    let goldens = goldens();
    let count = |task| goldens.iter().filter(|golden| golden.task == task).count();
    assert!(count(TaskType::SeqCls) >= 24 && count(TaskType::CausalLm) >= 18);
    for golden in &goldens {
        let dir = tempfile::tempdir().unwrap();
        let written = write(golden, dir.path());
        assert_eq!(
            layout(&written),
            layout(&golden.adapter),
            "{}",
            golden.adapter.display()
        );
        compare_configs(golden, &written);
    }
}
