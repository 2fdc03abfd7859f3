//! Rows to tokens, with a tiny tokenizer and with a real one.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value, json};
use taper_core::{Control, DataFile, RequestedAction, Stop};
use tokenizers::Tokenizer;

use super::*;
use crate::{Error, Result};

mod cases;
mod chats;
mod families;

const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// One token a byte, and the two marks of ChatML as ids 256 and 257.
fn tokenizer() -> Tokenizer {
    // The alphabet of byte-level tokenizers: printable bytes stand for themselves, the others for letters from U+0100 on.
    let plain =
        |b: u32| (33..=126).contains(&b) || (161..=172).contains(&b) || (174..=255).contains(&b);
    let mut others = 0;
    let vocab: serde_json::Map<String, Value> = (0..256)
        .map(|b| {
            let letter = if plain(b) {
                b
            } else {
                others += 1;
                255 + others
            };
            (char::from_u32(letter).unwrap().to_string(), json!(b))
        })
        .collect();
    let mark = |id: u32, text: &str| json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    let file = json!({
        "version": "1.0",
        // Settings of the file that training must not follow.
        "truncation": {"direction": "Left", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 99}, "direction": "Left", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "a"},
        "added_tokens": [mark(256, "<|im_start|>"), mark(257, "<|im_end|>")],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []},
    });
    file.to_string().parse().unwrap()
}

fn setup_with(tokenizer_config: Value) -> TokenizerSetup {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("tokenizer_config.json"),
        tokenizer_config.to_string(),
    )
    .unwrap();
    TokenizerSetup::open(dir.path(), tokenizer(), &json!({"eos_token_id": [7, 8]})).unwrap()
}

fn setup() -> TokenizerSetup {
    setup_with(
        json!({"bos_token": "<|im_start|>", "eos_token": {"content": "<|im_end|>"}, "chat_template": CHATML}),
    )
}

fn rows(lines: &[Value]) -> Vec<Row> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let text: Vec<String> = lines.iter().map(Value::to_string).collect();
    fs::write(&path, text.join("\n")).unwrap();
    let file = DataFile {
        id: "file-1".to_owned(),
        filename: "data.jsonl".to_owned(),
        path,
        sha256: String::new(),
    };
    read_rows(&file, &BTreeMap::new(), Part::Training).unwrap()
}

fn encoded(setup: &TokenizerSetup, lines: &[Value], max_length: usize) -> Result<Encoded> {
    let rows = rows(lines);
    let source = Source {
        rows: &rows,
        part: Part::Training,
    };
    encode(
        setup,
        source,
        &Classes::of(&rows)?,
        to(max_length),
        &Control::new(),
    )
}

fn to(tokens: usize) -> MaxLength {
    MaxLength {
        tokens,
        raisable: true,
    }
}

fn told(result: Result<Encoded>) -> String {
    match result.unwrap_err() {
        Error::Spec(spec) => {
            format!("{} {}: {spec}", spec.first().param, spec.first().code)
        }
        other => panic!("{other}"),
    }
}

/// A row as text, with the tokens that the loss covers in brackets.
fn shown(tokenizer: &Tokenizer, data: &Encoded, row: usize) -> String {
    let Targets::Tokens(trained) = &data.targets else {
        panic!("no token targets")
    };
    let mut text = String::new();
    let mut inside = false;
    for (id, trained) in data.ids[row].iter().zip(&trained[row]) {
        if *trained != inside {
            text.push(if inside { ']' } else { '[' });
            inside = *trained;
        }
        text.push_str(&tokenizer.decode(&[*id], false).unwrap());
    }
    if inside {
        text.push(']');
    }
    text
}

#[test]
fn a_completion_is_learned_to_its_end() {
    let setup = setup();
    let lines = [
        json!({"prompt": "ab", "completion": "cd"}),
        json!({"prompt": "ab ", "completion": "é"}),
    ];
    let data = encoded(&setup, &lines, 100).unwrap();
    assert_eq!(shown(&setup.tokenizer, &data, 0), "ab[cd<|im_end|>]");
    assert_eq!(data.ids[1].last(), Some(&257));
    assert_eq!((data.len(), data.lines.as_slice()), (2, &[1, 2][..]));
    assert_eq!((data.tokens(), data.label_tokens()), (5 + 6, 3 + 3));
    assert_eq!(data.truncated, 0);
}

#[test]
fn prompt_and_completion_are_one_text() {
    let setup = setup();
    for (prompt, completion, wanted) in [
        ("", "a", "[a<|im_end|>]"),
        ("a", "", "a[<|im_end|>]"),
        ("a", "b<|im_end|>", "a[b<|im_end|>]"),
        ("a<|im_end|>", "", "a<|im_end|>[<|im_end|>]"),
        ("a\n", "\nb", "a\n[\nb<|im_end|>]"),
        ("a ", " b", "a [ b<|im_end|>]"),
    ] {
        let row = json!({"prompt": prompt, "completion": completion});
        let data = encoded(&setup, &[row], 100).unwrap();
        assert_eq!(shown(&setup.tokenizer, &data, 0), wanted);
    }
    let alpaca = json!({"instruction": "i", "output": "o"});
    let data = encoded(&setup, &[alpaca], 1000).unwrap();
    let text = shown(&setup.tokenizer, &data, 0);
    assert!(text.ends_with("### Response:[o<|im_end|>]"), "{text}");
}

#[test]
fn a_token_that_spans_the_border_is_the_answers() {
    let mut file = json!(null);
    let setup = setup();
    file.clone_from(&serde_json::from_str(&setup.tokenizer.to_string(false).unwrap()).unwrap());
    file["model"]["merges"] = json!([["\u{10a}", "\u{10a}"]]);
    file["model"]["vocab"]["\u{10a}\u{10a}"] = json!(258);
    file["pre_tokenizer"]["use_regex"] = json!(false);
    let setup = TokenizerSetup {
        tokenizer: file.to_string().parse().unwrap(),
        ..setup
    };
    let rows = [
        json!({"prompt": "Q:\n", "completion": "\nYes"}),
        json!({"prompt": "Q:\n", "completion": "Yes"}),
    ];
    let data = encoded(&setup, &rows, 100).unwrap();
    assert_eq!(data.ids[0][2], 258);
    assert_eq!((data.targets_of(0), data.targets_of(1)), (5, 4));
    let chat = json!({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "\nYes"}]});
    let data = encoded(&setup, &[chat], 100).unwrap();
    assert_eq!(data.label_tokens(), 6);
}

#[test]
fn a_cut_that_leaves_nothing_to_learn_is_an_error_with_lines() {
    let setup = setup();
    let long = |n: usize| json!({"prompt": "x".repeat(n), "completion": "yes"});
    let data = encoded(&setup, &[long(3), long(7)], 9).unwrap();
    assert_eq!(shown(&setup.tokenizer, &data, 1), "xxxxxxx[ye]");
    assert_eq!(data.truncated, 1);
    let mut lines = vec![long(3)];
    lines.extend((0..7).map(|_| long(9)));
    let message = told(encoded(&setup, &lines, 9));
    assert!(
        message.starts_with(
            "training_file invalid_training_file: line 2: none of the first 9 of its 13 tokens"
        ),
        "{message}"
    );
    assert!(message.ends_with("and 2 more bad lines"), "{message}");
}

#[test]
fn a_chat_is_learned_where_the_assistant_speaks() {
    let setup = setup();
    let chat = json!({"messages": [
        {"role": "user", "content": "hi"}, {"role": "assistant", "content": "no ", "weight": 0}, {"role": "user", "content": "é?"},
        {"role": "assistant", "content": " a  b"}, {"role": "user", "content": "bye"}, {"role": "assistant", "content": "bye"}, {"role": "user", "content": "."},
    ]});
    let data = encoded(&setup, std::slice::from_ref(&chat), 1000).unwrap();
    let text = shown(&setup.tokenizer, &data, 0);
    let expected = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nno <|im_end|>\n<|im_start|>user\n\u{fffd}\u{fffd}?<|im_end|>\n<|im_start|>assistant\n[ a  b<|im_end|>\n]<|im_start|>user\nbye<|im_end|>\n<|im_start|>assistant\n[bye<|im_end|>\n]<|im_start|>user\n.<|im_end|>\n";
    assert_eq!(text, expected);
    let message = told(encoded(&setup, &[chat], 20));
    assert!(
        message.contains("line 1: none of the first 20"),
        "{message}"
    );
}

#[test]
fn a_template_may_write_the_last_turn_differently() {
    let qwen = "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m.content.strip() }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let setup = setup_with(json!({"eos_token": "<|im_end|>", "chat_template": qwen}));
    let chat = json!({"messages": [
        {"role": "user", "content": "hi"}, {"role": "assistant", "content": "one\n"}, {"role": "user", "content": "one"}, {"role": "assistant", "content": "two"},
    ]});
    let data = encoded(&setup, &[chat], 1000).unwrap();
    assert_eq!(
        shown(&setup.tokenizer, &data, 0),
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n[one<|im_end|>\n]<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\n[<think>\n\n</think>\n\ntwo<|im_end|>\n]"
    );
}

#[test]
fn chats_that_a_template_cannot_take_are_named_by_line() {
    let chat = |role: &str| json!({"messages": [{"role": role, "content": "q"}, {"role": "assistant", "content": "a"}]});
    let counting =
        "{{ messages | length }}{% for m in messages %}{{ m.content | length }}{% endfor %}";
    let setup = setup_with(json!({"eos_token": "<|im_end|>", "chat_template": counting}));
    let message = told(encoded(&setup, &[chat("user")], 100));
    assert!(
        message.contains("line 1: message 2: the chat template writes it differently"),
        "{message}"
    );
    let strict = "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}{{ m.content }}{% endfor %}";
    let setup = setup_with(json!({"eos_token": "<|im_end|>", "chat_template": strict}));
    let message = told(encoded(&setup, &[chat("user"), chat("tool")], 100));
    assert!(
        message.contains("line 2: the chat template objects") && message.contains("no tools here"),
        "{message}"
    );
    let none = setup_with(json!({"eos_token": "<|im_end|>"}));
    let message = told(encoded(&none, &[chat("user")], 100));
    assert!(
        message.starts_with("training_file") && message.contains("has no chat template"),
        "{message}"
    );
}

#[test]
fn plain_text_is_cut_into_whole_blocks() {
    let setup = setup();
    let lines = [
        json!({"text": "abc"}),
        json!({"text": ""}),
        json!({"text": "defgh"}),
    ];
    let data = encoded(&setup, &lines, 4).unwrap();
    assert_eq!(shown(&setup.tokenizer, &data, 0), "[abc<|im_end|>]");
    assert_eq!(shown(&setup.tokenizer, &data, 1), "[<|im_end|>def]");
    assert_eq!((data.len(), data.lines.as_slice()), (2, &[1, 2][..]));
    assert_eq!((data.tokens(), data.label_tokens()), (8, 6));
    let message = told(encoded(&setup, &lines, 20));
    assert!(message.contains("has only 11 tokens"), "{message}");
}

#[test]
fn labelled_texts_keep_their_classes() {
    let lines = [
        json!({"text": "abcdef", "label": "b"}),
        json!({"text": "ab", "label": "a"}),
    ];
    let data = encoded(&setup(), &lines, 4).unwrap();
    assert_eq!(
        data,
        Encoded {
            ids: vec![vec![97, 98, 99, 100], vec![97, 98]],
            targets: Targets::Classes(vec![1, 0]),
            lines: vec![1, 2],
            truncated: 1,
            virtual_tokens: 0,
        }
    );
    assert_eq!(data.label_tokens(), 2);
}

#[test]
fn the_end_token_is_the_tokenizers_before_the_models() {
    assert_eq!(setup().eos, Some(257));
    assert_eq!(setup_with(json!({"eos_token": "not a token"})).eos, Some(7));
    let mut without = setup_with(json!({}));
    without.eos = None;
    let message = told(encoded(
        &without,
        &[json!({"prompt": "a", "completion": "b"})],
        9,
    ));
    assert!(message.starts_with("model invalid_model"), "{message}");
}

#[test]
fn the_end_tokens_are_the_bases_and_those_of_trained_turns() {
    let ends = |setup: &TokenizerSetup, line: Value| {
        let lines = [line];
        let data = encoded(setup, &lines, 64).unwrap();
        end_tokens(setup, &rows(&lines), &data)
    };
    let chat = || json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]});
    let completion = || json!({"prompt": "a", "completion": "b"});
    // The line feed behind the mark is no obstacle.
    assert_eq!(ends(&setup(), chat()), [7, 8, 257]);
    assert_eq!(ends(&setup(), completion()), [7, 8, 257]);
    let other = setup_with(json!({"eos_token": "c", "chat_template": CHATML}));
    let c = other.eos.unwrap();
    assert_eq!(ends(&other, chat()), [7, 8, 257]);
    assert_eq!(ends(&other, completion()), [7, 8, c]);
    // A turn that ends in words ends in no token.
    let open = CHATML.replace(" + '<|im_end|>'", "");
    let open = setup_with(json!({"eos_token": "c", "chat_template": open}));
    assert_eq!(ends(&open, chat()), [7, 8]);
    assert_eq!(
        ends(&other, json!({"text": "a".repeat(100)})),
        [7, 8, c],
        "plain text"
    );
    let labelled = ["b", "c"].map(|label| json!({"text": "a", "label": label}));
    let data = encoded(&setup(), &labelled, 64).unwrap();
    assert_eq!(end_tokens(&setup(), &rows(&labelled), &data), [0; 0]);
}

#[test]
fn a_wish_to_stop_is_heard() {
    let rows = rows(&[json!({"prompt": "a", "completion": "b"})]);
    let control = Control::new();
    control.request(RequestedAction::Cancel);
    let source = Source {
        rows: &rows,
        part: Part::Training,
    };
    let error = encode(
        &setup(),
        source,
        &Classes::of(&rows).unwrap(),
        to(9),
        &control,
    )
    .unwrap_err();
    assert!(matches!(error, Error::Stopped(Stop::Cancelled)), "{error}");
}

/// The real model and data of `TAPER_FIXTURES`. The numbers are those of `bench/peer.py` and of `apply_chat_template`; for plain text
/// those of the tokenizers package, since transformers 5 does not follow this tokenizer.json where it splits digits.
#[test]
fn real_data_become_the_same_tokens_as_in_python() {
    let Some(fixtures) = std::env::var_os("TAPER_FIXTURES") else {
        eprintln!("skipped: TAPER_FIXTURES is not set");
        return;
    };
    let fixtures = Path::new(&fixtures);
    let dir = fixtures.join("models/SmolLM2-135M-Instruct");
    let config = serde_json::from_slice(&fs::read(dir.join("config.json")).unwrap()).unwrap();
    let tokenizer = Tokenizer::from_file(dir.join("tokenizer.json")).unwrap();
    let setup = TokenizerSetup::open(&dir, tokenizer, &config).unwrap();
    let counts = |name: &str, max_length| {
        let file = DataFile {
            id: "file-1".to_owned(),
            filename: name.to_owned(),
            path: fixtures.join("data").join(name),
            sha256: String::new(),
        };
        let rows = read_rows(&file, &BTreeMap::new(), Part::Training).unwrap();
        let source = Source {
            rows: &rows,
            part: Part::Training,
        };
        let classes = Classes::of(&rows).unwrap();
        let data = encode(&setup, source, &classes, to(max_length), &Control::new()).unwrap();
        let sum: u64 = data.ids.iter().flatten().map(|id| u64::from(*id)).sum();
        (
            data.len(),
            data.tokens(),
            data.label_tokens(),
            data.truncated,
            sum,
        )
    };
    assert_eq!(
        counts("chatterbot_train.jsonl", 256),
        (709, 18793, 12746, 2, 78_262_802)
    );
    assert_eq!(
        counts("shakespeare_train.jsonl", 256),
        (5545, 1_419_520, 1_413_975, 0, 6_399_484_799)
    );
    let chat = json!({"messages": [{"role": "user", "content": "Hello, wörld"}, {"role": "assistant", "content": "  Yes: 😀\n\n- a"}, {"role": "user", "content": "?"}, {"role": "assistant", "content": "No."}]});
    let data = encoded(&setup, &[chat], 1000).unwrap();
    let expected = [
        1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411,
        407, 19712, 8182, 2, 198, 1, 4093, 198, 19556, 28, 267, 29989, 400, 2, 198, 1, 520, 9531,
        3805, 9230, 42, 40303, 218, 198, 198, 29, 253, 2, 198, 1, 4093, 198, 47, 2, 198, 1, 520,
        9531, 198, 5230, 30, 2, 198,
    ];
    assert_eq!(data.ids, [expected]);
    // From "\n  Yes" (the newline of the header is one token with the spaces) and from "No" on, up to the newline after the end mark.
    let covered = |i: usize| (34..=44).contains(&i) || (55..=58).contains(&i);
    assert_eq!(
        data.targets,
        Targets::Tokens(vec![(0..59).map(covered).collect()])
    );
}
