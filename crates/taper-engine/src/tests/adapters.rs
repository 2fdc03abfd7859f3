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
    let of = |patterns: &Value, path: &str, default: &Value| {
        let patterns = patterns.as_object().unwrap().iter();
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
        let r = of(&config["rank_pattern"], path, &config["r"]);
        let alpha = of(&config["alpha_pattern"], path, &config["lora_alpha"]);
        let divisor = if config["use_rslora"] == true {
            r.sqrt()
        } else {
            r
        };
        (path.to_owned(), format!("{:.9}", alpha / divisor))
    };
    modules.map(scale).collect()
}

fn compare_configs(golden: &Golden, written: &Path) {
    let label = golden.adapter.display();
    let (theirs, ours) = (config(&golden.adapter), config(written));
    let keys = |config: &Map<String, Value>| config.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(keys(&ours), keys(&theirs), "{label}");
    let is_lora = theirs["peft_type"] == "LORA";
    if is_lora {
        let layout = layout(written);
        assert_eq!(scales(&ours, &layout), scales(&theirs, &layout), "{label}");
    }
    // Ranks and alphas by pattern are written by whole paths, rank-stabilised ones as plain: the scales above are what they mean.
    let mut other = vec!["rank_pattern", "alpha_pattern"];
    if is_lora && theirs["use_rslora"] == true {
        other.extend(["use_rslora", "lora_alpha"]);
    }
    for (key, value) in theirs
        .iter()
        .filter(|(key, _)| !other.contains(&key.as_str()))
    {
        assert_eq!(as_set(&ours[key]), as_set(value), "{label}: {key}");
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
