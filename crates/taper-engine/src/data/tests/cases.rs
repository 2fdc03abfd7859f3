//! Random chats and what transformers makes of them, as `tests/peers/data.py` writes it down.

use std::{collections::HashMap, env, path::PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::*;

/// The fixed cases; `TAPER_DATA_CASES` names a file with others.
const FIXED: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/golden/data/cases.json"
);
/// Differences that are told.
const SHOWN: usize = 12;

#[derive(Deserialize)]
struct Cases {
    special: Value,
    templates: HashMap<String, String>,
    tokenizers: HashMap<String, Value>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    tokenizer: String,
    row: Value,
    refused: Option<String>,
    /// How many there are, and the sha256 of their JSON.
    ids: Option<(usize, String)>,
    text: Option<String>,
    #[serde(default)]
    trained: Vec<String>,
    #[serde(default)]
    untrained: Vec<String>,
    /// transformers' own, of templates that mark what the assistant says.
    mask: Option<String>,
}

impl Cases {
    fn read() -> Self {
        let path = env::var_os("TAPER_DATA_CASES").map_or_else(|| FIXED.into(), PathBuf::from);
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    /// `None` where the template asks for what taper refuses by name.
    fn setup(&self, case: &Case) -> Option<TokenizerSetup> {
        let dir = tempfile::tempdir().unwrap();
        let mut config = self.special.clone();
        config["chat_template"] = json!(self.templates[&case.template]);
        fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        let tokenizer = self.tokenizers[&case.tokenizer]
            .to_string()
            .parse()
            .unwrap();
        match TokenizerSetup::open(dir.path(), tokenizer, &json!({})) {
            Ok(setup) => Some(setup),
            Err(error) => {
                assert!(error.to_string().contains("not supported"), "{error}");
                None
            }
        }
    }
}

impl Case {
    /// What of it is not as in transformers.
    fn difference(&self, setup: &TokenizerSetup) -> Option<String> {
        let made = try_rows(std::slice::from_ref(&self.row))
            .and_then(|rows| encode_rows(setup, &rows, 1 << 20));
        let data = match (made, self.refused.as_deref()) {
            (Err(_), Some(_)) | (Ok(_), Some("may")) => return None,
            (Ok(data), Some(_)) => {
                let text = setup.tokenizer.decode(&data.ids[0], false).unwrap();
                return Some(format!("trained, and is to be refused: {text}"));
            }
            (Err(error), None) => return Some(format!("refused: {error}")),
            (Ok(data), None) => data,
        };
        let ids = &data.ids[0];
        let json = serde_json::to_string(ids).unwrap();
        let hash: String = Sha256::digest(json)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        if self.ids.as_ref() != Some(&(ids.len(), hash)) {
            let text = setup.tokenizer.decode(ids, false).unwrap();
            let wanted = self.text.as_deref().unwrap_or("other tokens");
            return Some(format!("{text}\n  instead of\n{wanted}"));
        }
        let Targets::Tokens(trained) = &data.targets else {
            return Some("no tokens to be trained".to_owned());
        };
        self.mask_difference(setup, ids, &trained[0])
    }

    fn mask_difference(
        &self,
        setup: &TokenizerSetup,
        ids: &[u32],
        trained: &[bool],
    ) -> Option<String> {
        let shown: String = trained.iter().map(|t| if *t { '1' } else { '0' }).collect();
        if self.mask.as_ref().is_some_and(|mask| *mask != shown) {
            return Some(format!("mask {shown}\n  instead of {:?}", self.mask));
        }
        let text = |wanted: bool| {
            let ids = ids.iter().zip(trained).filter(|(_, on)| **on == wanted);
            let ids: Vec<u32> = ids.map(|(id, _)| *id).collect();
            setup.tokenizer.decode(&ids, false).unwrap()
        };
        let (on, off) = (text(true), text(false));
        // The numbers in the texts are found again wherever tokens begin.
        let number = |text: &str| {
            let digits = text.split(|c: char| !c.is_ascii_digit());
            digits
                .max_by_key(|digits| digits.len())
                .map(|d| format!("n{d}z"))
        };
        let missing = |texts: &[String], inside: &str, outside: &str| {
            let numbers = texts.iter().filter_map(|text| number(text));
            numbers.into_iter().find(|n| {
                self.row.to_string().contains(n.as_str())
                    && (!inside.contains(n.as_str()) || outside.contains(n.as_str()))
            })
        };
        let wrong =
            missing(&self.trained, &on, &off).or_else(|| missing(&self.untrained, &off, &on));
        wrong.map(|number| format!("{number} is on the wrong side: [{on}] / {off}"))
    }
}

fn try_rows(lines: &[Value]) -> Result<Vec<Row>> {
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
    read_rows(&file, &BTreeMap::new(), Part::Training)
}

fn encode_rows(setup: &TokenizerSetup, rows: &[Row], max_length: usize) -> Result<Encoded> {
    let part = Part::Training;
    let source = Source { rows, part };
    encode(
        setup,
        source,
        &Classes::none(),
        to(max_length),
        &Control::new(),
    )
}

#[test]
fn chats_become_what_transformers_makes_of_them() {
    let cases = Cases::read();
    assert!(cases.cases.len() >= 100);
    let differences: Vec<String> = cases
        .cases
        .iter()
        .enumerate()
        .filter_map(|(i, case)| {
            let difference = case.difference(&cases.setup(case)?)?;
            let (template, tokenizer) = (&case.template, &case.tokenizer);
            Some(format!(
                "{i} {template} {tokenizer}: {}\n{difference}",
                case.row
            ))
        })
        .collect();
    let count = differences.len();
    let shown = differences[..count.min(SHOWN)].join("\n\n");
    assert_eq!(count, 0, "{count} of {}:\n{shown}", cases.cases.len());
}
