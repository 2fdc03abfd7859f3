use std::{collections::BTreeMap, fs, path::Path};

use anyhow::Result;
use safetensors::{Dtype, serialize_to_file, tensor::TensorView};
use serde_json::{Map, Value, json};

const HIDDEN: usize = 32;
const LAYERS: usize = 2;
const INTERMEDIATE: usize = 64;
const POSITIONS: usize = 64;

const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
const GOOD: [&str; 4] = ["good", "great", "superb", "moving"];
const BAD: [&str; 4] = ["bad", "awful", "dull", "weak"];
const OTHER: [&str; 8] = ["the", "a", "film", "plot", "actor", "scene", "is", "very"];

fn words() -> Vec<&'static str> {
    [&SPECIAL[..], &GOOD, &BAD, &OTHER].concat()
}

/// Reviews whose words tell the class: text and label, good and bad ones in turn.
pub fn reviews(count: usize) -> Vec<(String, &'static str)> {
    let mut random = Random(count as u64);
    let pick = |words: &[&'static str], random: &mut Random| words[random.below(words.len())];
    (0..count)
        .map(|i| {
            let (label, telling) = if i % 2 == 0 {
                ("good", GOOD)
            } else {
                ("bad", BAD)
            };
            let length = 3 + random.below(6);
            let mut text: Vec<_> = (0..length).map(|_| pick(&OTHER, &mut random)).collect();
            text[random.below(length)] = pick(&telling, &mut random);
            (text.join(" "), label)
        })
        .collect()
}

/// Reviews as JSONL.
pub fn jsonl(count: usize) -> String {
    reviews(count)
        .iter()
        .map(|(text, label)| format!("{}\n", json!({"text": text, "label": label})))
        .collect()
}

/// Reviews as CSV.
pub fn csv(count: usize) -> String {
    let rows = reviews(count);
    let lines = rows
        .iter()
        .map(|(text, label)| format!("{label},\"{text}\"\n"));
    "label,text\n".to_owned() + &lines.collect::<String>()
}

/// Writes a tiny random BERT in Hugging Face layout.
pub fn write_tiny_bert(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("config.json"), config().to_string())?;
    fs::write(folder.join("tokenizer.json"), tokenizer().to_string())?;
    let mut random = Random(7);
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = shapes()
        .into_iter()
        .map(|(name, shape)| {
            let values = (0..shape.iter().product()).map(|_| random.weight(&name));
            let bytes = values.flat_map(f32::to_le_bytes).collect();
            (name, shape, bytes)
        })
        .collect();
    let views: Result<Vec<_>, _> = tensors
        .iter()
        .map(|(name, shape, bytes)| {
            TensorView::new(Dtype::F32, shape.clone(), bytes).map(|view| (name, view))
        })
        .collect();
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    serialize_to_file(views?, Some(metadata), &folder.join("model.safetensors"))?;
    Ok(())
}

pub fn config() -> Value {
    json!({
        "architectures": ["BertModel"], "model_type": "bert", "vocab_size": words().len(), "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS, "num_attention_heads": 2, "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": POSITIONS, "type_vocab_size": 2, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "layer_norm_eps": 1e-12, "initializer_range": 0.02, "pad_token_id": 0,
    })
}

fn tokenizer() -> Value {
    let words = words();
    let vocab: Map<String, Value> = words
        .iter()
        .enumerate()
        .map(|(id, word)| ((*word).to_owned(), json!(id)))
        .collect();
    let added: Vec<_> = SPECIAL
        .iter()
        .map(|word| {
            json!({"id": vocab[*word], "content": word, "special": true, "single_word": false, "lstrip": false,
                   "rstrip": false, "normalized": false})
        })
        .collect();
    let special = |word: &str| json!({"SpecialToken": {"id": word, "type_id": 0}});
    let text = |id: &str, part: u8| json!({"Sequence": {"id": id, "type_id": part}});
    let token = |word: &str| json!({"id": word, "ids": [vocab[word]], "tokens": [word]});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [special("[CLS]"), text("A", 0), special("[SEP]")],
            "pair": [special("[CLS]"), text("A", 0), special("[SEP]"), text("B", 1), special("[SEP]")],
            "special_tokens": {"[CLS]": token("[CLS]"), "[SEP]": token("[SEP]")},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocab},
    })
}

fn shapes() -> BTreeMap<String, Vec<usize>> {
    let mut shapes = BTreeMap::new();
    let mut linear = |name: &str, rows: usize, columns: usize| {
        shapes.insert(format!("{name}.weight"), vec![rows, columns]);
        shapes.insert(format!("{name}.bias"), vec![rows]);
    };
    linear("pooler.dense", HIDDEN, HIDDEN);
    for layer in 0..LAYERS {
        let at = |part: &str| format!("encoder.layer.{layer}.{part}");
        for part in ["self.query", "self.key", "self.value", "output.dense"] {
            linear(&at(&format!("attention.{part}")), HIDDEN, HIDDEN);
        }
        linear(&at("intermediate.dense"), INTERMEDIATE, HIDDEN);
        linear(&at("output.dense"), HIDDEN, INTERMEDIATE);
    }
    let layers = (0..LAYERS).flat_map(|layer| {
        ["attention.output", "output"].map(|part| format!("encoder.layer.{layer}.{part}"))
    });
    for at in layers.chain(["embeddings".to_owned()]) {
        shapes.insert(format!("{at}.LayerNorm.weight"), vec![HIDDEN]);
        shapes.insert(format!("{at}.LayerNorm.bias"), vec![HIDDEN]);
    }
    for (table, rows) in [
        ("word", words().len()),
        ("position", POSITIONS),
        ("token_type", 2),
    ] {
        shapes.insert(
            format!("embeddings.{table}_embeddings.weight"),
            vec![rows, HIDDEN],
        );
    }
    shapes
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    /// The value that a tensor of this name starts with.
    fn weight(&mut self, name: &str) -> f32 {
        if name.ends_with("LayerNorm.weight") {
            return 1.0;
        }
        if name.ends_with(".bias") {
            return 0.0;
        }
        let uniform = (self.next() >> 40) as f32 / (1u64 << 24) as f32;
        (uniform - 0.5) * 0.5
    }
}
