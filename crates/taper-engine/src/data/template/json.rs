//! JSON as Python's `json.dumps` writes it.

use std::fmt::Write;

use minijinja::{
    Error, ErrorKind, Value,
    value::{Kwargs, ValueKind},
};

use super::python::float;

/// Values nested deeper than this are refused.
const DEEPEST: usize = 100;

/// The arguments of `json.dumps` that transformers' `tojson` has.
pub(super) struct Dump {
    indent: Option<String>,
    item: String,
    key: String,
    ascii: bool,
    sorted: bool,
}

impl Dump {
    /// # Errors
    /// An argument that there is not, or of another type.
    pub(super) fn of(options: &Kwargs) -> Result<Self, Error> {
        let indent = match options.get::<Option<Value>>("indent")? {
            None => None,
            Some(value) => match (value.as_str(), value.as_usize()) {
                (Some(text), _) => Some(text.to_owned()),
                (None, Some(width)) => Some(" ".repeat(width.min(64))),
                (None, None) => return Err(invalid("'indent' must be a number or a text")),
            },
        };
        let separators: Option<Value> = options.get("separators")?;
        let (item, key) = match separators.filter(|value| !value.is_none()) {
            None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
            None => (", ".to_owned(), ": ".to_owned()),
            Some(pair) => match &pair.try_iter()?.collect::<Vec<_>>()[..] {
                [item, key] => (item.to_string(), key.to_string()),
                _ => return Err(invalid("'separators' must be two texts")),
            },
        };
        let yes = |name| {
            let value: Option<Value> = options.get(name)?;
            Ok::<_, Error>(value.is_some_and(|value| value.is_true()))
        };
        let dump = Self {
            indent,
            item,
            key,
            ascii: yes("ensure_ascii")?,
            sorted: yes("sort_keys")?,
        };
        options.assert_all_used()?;
        Ok(dump)
    }

    pub(super) fn text(&self, value: &Value) -> Result<String, Error> {
        let mut text = String::new();
        self.write(&mut text, value, 0)?;
        Ok(text)
    }

    fn write(&self, text: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > DEEPEST {
            return Err(invalid("the value is nested too deeply"));
        }
        match value.kind() {
            ValueKind::None => text.push_str("null"),
            ValueKind::Bool => text.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => text.push_str(&value.to_string()),
            ValueKind::Number => text.push_str(&number(value)?),
            ValueKind::String => self.string(text, value.as_str().unwrap_or_default()),
            ValueKind::Map => {
                let mut pairs = Vec::new();
                for key in value.try_iter()? {
                    pairs.push((name(&key)?, value.get_item(&key)?));
                }
                if self.sorted {
                    pairs.sort_by(|a, b| a.0.cmp(&b.0));
                }
                self.list(text, ('{', '}'), pairs, depth, |text, (key, value)| {
                    self.string(text, &key);
                    text.push_str(&self.key);
                    self.write(text, &value, depth + 1)
                })?;
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.list(text, ('[', ']'), items, depth, |text, value| {
                    self.write(text, &value, depth + 1)
                })?;
            }
            other => {
                let message = format!("{other} cannot be written as JSON");
                return Err(Error::new(ErrorKind::BadSerialization, message));
            }
        }
        Ok(())
    }

    fn list<T>(
        &self,
        text: &mut String,
        (open, close): (char, char),
        items: Vec<T>,
        depth: usize,
        write: impl Fn(&mut String, T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        text.push(open);
        let some = !items.is_empty();
        for (place, item) in items.into_iter().enumerate() {
            if place > 0 {
                text.push_str(&self.item);
            }
            self.line(text, depth + 1);
            write(text, item)?;
        }
        if some {
            self.line(text, depth);
        }
        text.push(close);
        Ok(())
    }

    fn line(&self, text: &mut String, depth: usize) {
        if let Some(indent) = &self.indent {
            text.push('\n');
            text.push_str(&indent.repeat(depth));
        }
    }

    fn string(&self, text: &mut String, value: &str) {
        text.push('"');
        for letter in value.chars() {
            match letter {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\u{8}' => text.push_str("\\b"),
                '\u{c}' => text.push_str("\\f"),
                letter if letter < ' ' || (self.ascii && letter >= '\u{7f}') => {
                    // What Python leaves as it is in ASCII is this one.
                    if letter == '\u{7f}' {
                        text.push(letter);
                        continue;
                    }
                    for unit in letter.encode_utf16(&mut [0; 2]) {
                        // Writing to a text does not fail.
                        let _ = write!(text, "\\u{unit:04x}");
                    }
                }
                letter => text.push(letter),
            }
        }
        text.push('"');
    }
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.to_owned())
}

fn number(value: &Value) -> Result<String, Error> {
    let number = f64::try_from(value.clone())?;
    Ok(match number {
        n if n.is_nan() => "NaN".to_owned(),
        n if n.is_infinite() && n > 0.0 => "Infinity".to_owned(),
        n if n.is_infinite() => "-Infinity".to_owned(),
        n => float(n),
    })
}

/// A key as `json.dumps` writes it.
fn name(key: &Value) -> Result<String, Error> {
    Ok(match key.kind() {
        ValueKind::String => key.to_string(),
        ValueKind::None => "null".to_owned(),
        ValueKind::Bool => if key.is_true() { "true" } else { "false" }.to_owned(),
        ValueKind::Number if key.is_integer() => key.to_string(),
        ValueKind::Number => number(key)?,
        other => {
            return Err(invalid(&format!(
                "a key of an object must be a text, not {other}"
            )));
        }
    })
}
