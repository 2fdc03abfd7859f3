use serde_json::{Map, Value};

use super::{chat, label, shown};
use crate::data::Content;

/// The sets of fields that taper reads; the first one whose fields are all there is a row's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Labelled,
    Completion,
    Alpaca,
    Messages,
    Conversations,
    Text,
}

/// What a line may look like before the first row has decided.
pub(super) const ANY: &str = "each row must have the fields text and label, prompt and completion, instruction and output, messages, conversations, or text";

/// Fields of other methods of training, by which their rows are told.
const PREFERENCES: [&str; 3] = ["chosen", "rejected", "preferred_output"];

impl Kind {
    const ALL: [Self; 6] = [
        Self::Labelled,
        Self::Completion,
        Self::Alpaca,
        Self::Messages,
        Self::Conversations,
        Self::Text,
    ];

    /// The kind of a row by its fields.
    pub(super) fn of(object: &Map<String, Value>) -> Option<Self> {
        Self::among(|field| object.contains_key(field))
    }

    /// The kind of the rows that have the fields for which `has` says so.
    pub(super) fn among(has: impl Fn(&str) -> bool) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.needs().iter().all(|field| has(field)))
    }

    fn needs(self) -> &'static [&'static str] {
        match self {
            Self::Labelled => &["text", "label"],
            Self::Completion => &["prompt", "completion"],
            Self::Alpaca => &["instruction", "output"],
            Self::Messages => &["messages"],
            Self::Conversations => &["conversations"],
            Self::Text => &["text"],
        }
    }

    /// The kind in the middle of a sentence.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Labelled => "a text with a label",
            Self::Completion => "a prompt with its completion",
            Self::Alpaca => "an instruction with its output",
            Self::Messages => "a chat of messages",
            Self::Conversations => "a chat of conversations",
            Self::Text => "a plain text",
        }
    }

    pub(super) fn wanted(self) -> &'static str {
        match self {
            Self::Labelled => r#"each line must be an object like {"text": "…", "label": "…"}"#,
            Self::Completion => {
                r#"each line must be an object like {"prompt": "…", "completion": "…"}"#
            }
            Self::Alpaca => {
                r#"each line must be an object like {"instruction": "…", "input": "…", "output": "…"}"#
            }
            Self::Messages => {
                r#"each line must be an object like {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}"#
            }
            Self::Conversations => {
                r#"each line must be an object like {"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]}"#
            }
            Self::Text => r#"each line must be an object like {"text": "…"}"#,
        }
    }

    /// A row of this kind.
    ///
    /// # Errors
    /// The first field that is missing or of another type, or that means another kind of training.
    pub(super) fn read(self, object: &Map<String, Value>) -> Result<Content, String> {
        let other = PREFERENCES.iter().find(|name| is_there(object, name));
        if let Some(name) = other {
            return Err(format!(
                "has '{name}': preferences (DPO) cannot be trained on yet; keep the better answer as 'completion' or as the last message"
            ));
        }
        let text = |field: &str| self.text(object, field);
        Ok(match self {
            Self::Labelled => Content::Labelled {
                text: text("text")?,
                label: label::read(self.field(object, "label")?)?,
            },
            Self::Completion => self.completion(object)?,
            Self::Alpaca => {
                let input = match object.get("input") {
                    None | Some(Value::Null) => String::new(),
                    Some(_) => text("input")?,
                };
                for name in ["system", "history", "tools"] {
                    refuse_unwritten(object, name)?;
                }
                Content::Completion {
                    prompt: alpaca_prompt(&text("instruction")?, &input),
                    completion: text("output")?,
                }
            }
            Self::Messages => chat::messages(self.field(object, "messages")?, object)?,
            Self::Conversations => {
                chat::conversations(self.field(object, "conversations")?, object)?
            }
            Self::Text => Content::Text(text("text")?),
        })
    }

    fn completion(self, object: &Map<String, Value>) -> Result<Content, String> {
        if let Some(Value::Bool(_)) = object.get("label") {
            return Err("has a 'label' that is true or false beside prompt and completion: such judgements (KTO) cannot be trained on yet; keep the good rows only, without 'label'".to_owned());
        }
        let (prompt, completion) = (
            self.field(object, "prompt")?,
            self.field(object, "completion")?,
        );
        if prompt.is_array() || completion.is_array() {
            return chat::prompted(prompt, completion, object);
        }
        for name in ["system", "tools"] {
            refuse_unwritten(object, name)?;
        }
        Ok(Content::Completion {
            prompt: self.text(object, "prompt")?,
            completion: self.text(object, "completion")?,
        })
    }

    fn field<'a>(self, object: &'a Map<String, Value>, name: &str) -> Result<&'a Value, String> {
        object.get(name).ok_or_else(|| {
            let mapping = mapping(&[name]);
            format!("has no '{name}'; {}; {mapping}", self.wanted())
        })
    }

    fn text(self, object: &Map<String, Value>, name: &str) -> Result<String, String> {
        match self.field(object, name)? {
            Value::String(text) => Ok(text.clone()),
            Value::Null => Err(format!("'{name}' is null")),
            other => Err(format!("'{name}' must be a string, not {}", shown(other))),
        }
    }
}

/// How a job tells which columns it means.
pub(super) fn mapping(fields: &[&str]) -> String {
    let pairs: Vec<_> = fields
        .iter()
        .map(|field| format!(r#""{field}": "…""#))
        .collect();
    format!(
        r#"where it has another name, the job can say so: "columns": {{{}}}"#,
        pairs.join(", ")
    )
}

fn is_there(object: &Map<String, Value>, name: &str) -> bool {
    match object.get(name) {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => !text.trim().is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(fields)) => !fields.is_empty(),
        Some(Value::Bool(_) | Value::Number(_)) => true,
    }
}

/// # Errors
/// A field that means something to others, and has no place in the text that such rows become.
fn refuse_unwritten(object: &Map<String, Value>, name: &str) -> Result<(), String> {
    if !is_there(object, name) {
        return Ok(());
    }
    Err(format!(
        "has '{name}', which has no place in the prompt of such rows; write the row as 'messages', or put it into the prompt"
    ))
}

/// The prompt that Stanford Alpaca trained with and that tuned models have been asked with since.
fn alpaca_prompt(instruction: &str, input: &str) -> String {
    if input.is_empty() {
        format!(
            "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### Response:"
        )
    } else {
        format!(
            "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use taper_core::DATA_FIELDS;

    use super::*;

    fn read(row: Value) -> Result<Content, String> {
        let object = row.as_object().unwrap();
        Kind::of(object).unwrap().read(object)
    }

    #[test]
    fn fields_tell_the_kind() {
        let completion = |prompt: &str, completion: &str| Content::Completion {
            prompt: prompt.to_owned(),
            completion: completion.to_owned(),
        };
        assert_eq!(
            read(json!({"text": "a", "label": -3})).unwrap(),
            Content::Labelled {
                text: "a".to_owned(),
                label: "-3".to_owned()
            }
        );
        assert_eq!(
            read(json!({"prompt": "p", "completion": "c"})).unwrap(),
            completion("p", "c")
        );
        assert_eq!(
            read(json!({"text": "a", "id": 1})).unwrap(),
            Content::Text("a".to_owned())
        );
        let Content::Completion { prompt, completion } =
            read(json!({"instruction": "add", "input": "1 2", "output": "3"})).unwrap()
        else {
            panic!("alpaca is a completion");
        };
        assert!(
            prompt.ends_with("### Instruction:\nadd\n\n### Input:\n1 2\n\n### Response:"),
            "{prompt}"
        );
        assert_eq!(completion, "3");
        for input in [json!(null), json!("")] {
            let row = read(json!({"instruction": "add", "input": input, "output": "3"})).unwrap();
            assert!(matches!(row, Content::Completion { prompt, .. } if !prompt.contains("Input")));
        }
        assert_eq!(Kind::of(json!({"x": 1}).as_object().unwrap()), None);
    }

    #[test]
    fn what_such_rows_cannot_say_is_refused() {
        for (row, told) in [
            (
                json!({"instruction": "i", "output": "o", "history": [["q", "a"]]}),
                "has 'history'",
            ),
            (
                json!({"instruction": "i", "output": "o", "system": "s"}),
                "has 'system'",
            ),
            (
                json!({"prompt": "p", "completion": "c", "label": false}),
                "KTO",
            ),
            (
                json!({"prompt": "p", "completion": "c", "rejected": "d"}),
                "has 'rejected'",
            ),
            (json!({"text": null}), "'text' is null"),
            (
                json!({"prompt": "p", "completion": null}),
                "'completion' is null",
            ),
        ] {
            let problem = read(row.clone()).unwrap_err();
            assert!(problem.contains(told), "{row}: {problem}");
        }
        let empty = json!({"instruction": "i", "output": "o", "history": [], "system": ""});
        assert!(read(empty).is_ok());
        assert!(
            read(json!({"prompt": "p", "completion": "c", "label": "x"})).is_ok(),
            "another column"
        );
    }

    #[test]
    fn every_kind_reads_fields_that_parquet_projects() {
        for kind in Kind::ALL {
            assert!(kind.needs().iter().all(|field| DATA_FIELDS.contains(field)));
        }
    }
}
