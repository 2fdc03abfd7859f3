//! What lies beside the weights of a result: that others can use it as it is.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};
use taper_core::{
    Control, DataFile, Device, Full, JobSpec, Method, RunSpec, Trainer as _, WarningCode,
};

use super::training::train;
use crate::{
    Engine,
    cache::Cache,
    model_folder::ModelFolder,
    models::{Head, Model},
    prepare::{Models, inspect},
};

const CHAT: &str = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} <|end|> {% endfor %}{% if add_generation_prompt %}assistant {% endif %}";
const COMPLETIONS: &str = "{\"prompt\": \"w10 w9 \", \"completion\": \"w20\"}\n{\"prompt\": \"w11 \", \"completion\": \"w21 w22\"}\n";
const CLASSES: &str =
    "{\"text\": \"w10 w9\", \"label\": \"a\"}\n{\"text\": \"w11\", \"label\": \"b\"}\n";

/// The golden Llama (end token 2, padding token 0) with a tokenizer of a word for each token: 2 is `</s>`, 4 `<|end|>`.
struct Decoder {
    dir: tempfile::TempDir,
}

impl Decoder {
    fn new(tokenizer_config: &Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("tiny");
        fs::create_dir(&model).unwrap();
        let golden =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/families/llama");
        for name in ["config.json", "model.safetensors"] {
            fs::copy(golden.join(name), model.join(name)).unwrap();
        }
        let this = Self { dir };
        this.put("tokenizer.json", &tokenizer());
        this.put("tokenizer_config.json", tokenizer_config);
        this
    }

    fn model(&self) -> PathBuf {
        self.dir.path().join("tiny")
    }

    fn put(&self, name: &str, content: &Value) {
        fs::write(self.model().join(name), content.to_string()).unwrap();
    }

    fn change_config(&self, key: &str, value: Value) {
        let mut config = read(&self.model().join("config.json"));
        config[key] = value;
        self.put("config.json", &config);
    }

    fn run(&self, tuning: &Value, rows: &str) -> RunSpec {
        let path = self.dir.path().join("rows.jsonl");
        fs::write(&path, rows).unwrap();
        let body = json!({"model": "tiny", "training_file": "rows", "tuning": tuning,
            "training": {"max_steps": 2, "per_device_train_batch_size": 2}});
        let mut run = RunSpec {
            job_id: "ftjob-results".to_owned(),
            attempt: 1,
            spec: JobSpec::parse(&body).unwrap(),
            model_dir: self.model(),
            start_from: None,
            training_file: DataFile {
                id: "rows".to_owned(),
                filename: "rows.jsonl".to_owned(),
                path,
                sha256: String::new(),
            },
            validation_file: None,
            run_dir: self.dir.path().join("run"),
            device: Device::Cpu,
            threads: 1,
            resume_from: None,
            pause_at_step: None,
        };
        run.spec = inspect(&Models::new(), &Cache::new(1), &run).unwrap();
        run
    }

    /// Trains; gives the folder of adapter or model.
    fn result(&self, tuning: &Value, rows: &str) -> PathBuf {
        let run = self.run(tuning, rows);
        fs::remove_dir_all(&run.run_dir).ok();
        train(&run);
        let kind = match run.spec.tuning.method.is_adapter() {
            true => "adapter",
            false => "model",
        };
        run.output_dir().join(kind)
    }
}

fn tokenizer() -> Value {
    let word = |id: usize| match id {
        0 => "<pad>".to_owned(),
        1 => "<s>".to_owned(),
        2 => "</s>".to_owned(),
        4 => "<|end|>".to_owned(),
        id => format!("w{id}"),
    };
    let words: Map<String, Value> = (0..64).map(|id| (word(id), json!(id))).collect();
    let special = |id: usize| json!({"id": id, "content": word(id), "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null, "decoder": null,
        "added_tokens": [special(0), special(1), special(2), special(4)],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "unk_token": "w3", "vocab": words},
    })
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn chat() -> String {
    let row = json!({"messages": [{"role": "user", "content": "w10"}, {"role": "assistant", "content": "w20 w21"}]});
    format!("{row}\n{row}\n")
}

fn tunings() -> [Value; 3] {
    ["lora", "prompt_tuning", "full"].map(|method| match method {
        "prompt_tuning" => json!({"type": method, "num_virtual_tokens": 2}),
        _ => json!({"type": method}),
    })
}

#[test]
fn decoders_that_write_know_where_to_stop() {
    let decoder = Decoder::new(&json!({"eos_token": "</s>", "chat_template": CHAT}));
    for tuning in tunings() {
        let file = |rows: &str| read(&decoder.result(&tuning, rows).join("generation_config.json"));
        // The base names one itself, in config.json; a chat ends its turns by another.
        let completions = file(COMPLETIONS);
        assert_eq!(completions["eos_token_id"], json!(2), "{tuning}");
        assert_eq!(completions["pad_token_id"], json!(0), "{tuning}");
        assert_eq!(file(&chat())["eos_token_id"], json!([2, 4]), "{tuning}");
    }
    decoder.put(
        "generation_config.json",
        &json!({"eos_token_id": [5, 2], "temperature": 0.5}),
    );
    let lora = &tunings()[0];
    let written = read(&decoder.result(lora, &chat()).join("generation_config.json"));
    assert_eq!(
        written,
        json!({"eos_token_id": [5, 2, 4], "temperature": 0.5})
    );
    // What classifies writes nothing.
    let classifier = decoder.result(lora, CLASSES);
    assert!(!classifier.join("generation_config.json").exists());
}

#[test]
fn a_text_is_written_up_to_any_of_the_end_tokens() {
    let decoder = Decoder::new(&json!({"eos_token": "</s>"}));
    let folder = ModelFolder::open(&decoder.model()).unwrap();
    let full = Method::Full(Full {});
    let model = Model::load(
        &folder,
        &full,
        Head::Vocabulary,
        &candle_core::Device::Cpu,
        1,
    )
    .unwrap();
    let write = |ends: &[u32]| model.generate(&[10, 9], 4, ends, &Control::new()).unwrap();
    let all = write(&[]);
    assert_eq!(all.len(), 4);
    let place = all.iter().position(|id| *id == all[2]).unwrap();
    assert_eq!(write(&[64, all[2]]), all[..place]);
}

#[test]
fn decoders_that_classify_know_what_fills_a_batch_up() {
    let config = |decoder: &Decoder, tuning: &Value| {
        let result = decoder.result(tuning, CLASSES);
        let card = fs::read_to_string(result.join("README.md")).unwrap();
        let pad = fs::read(result.join("config.json")).ok().map(|bytes| {
            let config: Value = serde_json::from_slice(&bytes).unwrap();
            config["pad_token_id"].clone()
        });
        (pad, card)
    };
    let [lora, prompt, full] = tunings();
    // The tokenizer's, the end token where there is none, and another where texts end in it.
    let named = Decoder::new(&json!({"eos_token": "</s>", "pad_token": "<s>"}));
    named.change_config("pad_token_id", Value::Null);
    let (pad, card) = config(&named, &full);
    assert_eq!(pad, Some(json!(1)));
    assert!(
        card.contains("pad_token=\"<s>\", padding_side=\"right\""),
        "{card}"
    );
    let (_, card) = config(&named, &lora);
    assert!(card.contains("num_labels=2, pad_token_id=1)"), "{card}");
    assert!(card.contains("padding=True"), "{card}");
    let (_, card) = config(&named, &prompt);
    assert!(card.contains("for text in"), "{card}");

    let without = Decoder::new(&json!({"eos_token": "</s>"}));
    without.change_config("pad_token_id", Value::Null);
    assert_eq!(config(&without, &full).0, Some(json!(2)));
    let mut ended = tokenizer();
    ended["post_processor"] = json!({"type": "TemplateProcessing", "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}], "single": [{"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "</s>", "type_id": 0}}], "special_tokens": {"</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}}});
    without.put("tokenizer.json", &ended);
    assert_eq!(config(&without, &full).0, Some(json!(0)));
}

#[test]
fn named_templates_go_with_the_result_and_count() {
    let decoder = Decoder::new(&json!({"eos_token": "</s>", "chat_template": CHAT}));
    let open = || ModelFolder::open(&decoder.model()).unwrap();
    let digest = || open().digest(&Control::new()).unwrap();
    let (plain, bytes) = (digest(), open().tokenizer_bytes());
    let templates = decoder.model().join("additional_chat_templates");
    fs::create_dir(&templates).unwrap();
    fs::write(templates.join("notes.txt"), "no template").unwrap();
    assert_eq!((digest(), open().tokenizer_bytes()), (plain, bytes));
    fs::write(decoder.model().join("chat_template.jinja"), CHAT).unwrap();
    let (plain, bytes) = (digest(), open().tokenizer_bytes());
    fs::write(templates.join("tool_use.jinja"), CHAT).unwrap();
    assert_eq!(open().tokenizer_bytes(), bytes + CHAT.len() as u64);
    let with = digest();
    assert_ne!(with, plain);
    fs::write(templates.join("tool_use.jinja"), CHAT.to_uppercase()).unwrap();
    assert_ne!(digest(), with);
    fs::write(templates.join("tool_use.jinja"), CHAT).unwrap();
    for tuning in tunings() {
        let copied = decoder
            .result(&tuning, &chat())
            .join("additional_chat_templates");
        assert_eq!(
            fs::read_to_string(copied.join("tool_use.jinja")).unwrap(),
            CHAT
        );
        assert!(!copied.join("notes.txt").exists());
    }
}

#[test]
fn a_result_names_a_base_that_can_be_found() {
    let decoder = Decoder::new(&json!({"eos_token": "</s>"}));
    let [lora, prompt, full] = tunings();
    let told = |tuning: &Value| {
        let result = decoder.result(tuning, COMPLETIONS);
        let card = fs::read_to_string(result.join("README.md")).unwrap();
        (
            read(&result.join("adapter_config.json"))["base_model_name_or_path"].clone(),
            card,
        )
    };
    let (name, card) = told(&lora);
    assert_eq!(name, "tiny");
    assert!(
        card.contains("folder on the server that made this"),
        "{card}"
    );
    decoder.change_config("_name_or_path", json!("acme/tiny-llama"));
    for tuning in [&lora, &prompt] {
        let (name, card) = told(tuning);
        // Published models carry there the name of the model that they were trained from.
        assert_eq!(name, "tiny");
        assert!(
            !card.contains("from_pretrained(\"acme/tiny-llama\")")
                && card.contains("names `acme/tiny-llama`"),
            "{card}"
        );
    }
    // A whole model is another than the one that it was made of.
    let config = read(&decoder.result(&full, COMPLETIONS).join("config.json"));
    assert_eq!(config.get("_name_or_path"), None);
}

#[test]
fn readers_that_will_refuse_are_told_by_the_plan() {
    let decoder = Decoder::new(&json!({"eos_token": "</s>"}));
    let codes = |tuning: Value| {
        let run = decoder.run(&tuning, COMPLETIONS);
        let plan = Engine::new().check(&run, &Control::new()).unwrap();
        let of_readers = plan.warnings.into_iter().map(|warning| warning.code);
        of_readers
            .filter(|code| *code == WarningCode::ReaderLimits)
            .count()
    };
    assert_eq!(codes(json!({"type": "lora", "r": 8})), 0);
    assert_eq!(codes(json!({"type": "lora", "r": 8, "lora_alpha": 1.5})), 1);
    assert_eq!(
        codes(json!({"type": "lora", "r": 4, "rank_pattern": {"q_proj": 8}})),
        1
    );
    assert_eq!(
        codes(json!({"type": "lora", "modules_to_save": ["input_layernorm"], "use_rslora": true})),
        2
    );
    assert_eq!(codes(json!({"type": "full"})), 0);
}
