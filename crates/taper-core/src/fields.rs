use std::fmt::Display;

use serde_json::{Map, Value};

use crate::error::{ErrorCode, FieldError};

/// Unknown fields of an object that are told of.
const MOST_UNKNOWN: usize = 100;
/// Bytes of a name that may be a known one with a slip in it.
const LONGEST_TYPO: usize = 64;

/// Reads a JSON object field by field and notes every finding with the field's path, so that one answer tells all errors.
///
/// Fields asked for are known; [`Fields::finish`] reports the others, with the nearest known name.
pub struct Fields<'a> {
    path: String,
    object: Option<&'a Map<String, Value>>,
    known: Vec<&'static str>,
    pub(crate) errors: Vec<FieldError>,
}

impl<'a> Fields<'a> {
    /// Reads `object`; `path` is its own path in the body, empty for the body itself.
    pub fn new(path: &str, object: &'a Map<String, Value>) -> Self {
        Self {
            path: path.to_owned(),
            object: Some(object),
            known: Vec::new(),
            errors: Vec::new(),
        }
    }

    fn at(path: &str, name: &str) -> String {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    }

    pub(crate) fn path_of(&self, name: &str) -> String {
        Self::at(&self.path, name)
    }

    /// Notes that a field is wrong; `message` goes on after its name.
    pub fn reject(&mut self, name: &str, message: impl Display) {
        let param = self.path_of(name);
        let message = format!("'{param}' {message}");
        self.errors.push(FieldError::invalid(param, message));
    }

    /// The value of a field; `null` counts as absent, as with OpenAI's clients.
    pub fn value(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.object?.get(name).filter(|value| !value.is_null())
    }

    /// Whether a field is there, with nothing wrong noted about it.
    pub(crate) fn has(&self, name: &str) -> bool {
        let param = self.path_of(name);
        let value = self.object.and_then(|object| object.get(name));
        value.is_some_and(|value| !value.is_null())
            && !self.errors.iter().any(|error| error.param == param)
    }

    /// A whole number in a range.
    pub fn integer(
        &mut self,
        name: &'static str,
        range: std::ops::RangeInclusive<i64>,
    ) -> Option<i64> {
        let value = self.value(name)?;
        match value.as_i64() {
            Some(n) if range.contains(&n) => Some(n),
            _ => {
                self.reject(
                    name,
                    format_args!(
                        "must be a whole number from {} to {}, not {}",
                        range.start(),
                        range.end(),
                        shown(value)
                    ),
                );
                None
            }
        }
    }

    /// A finite number for which `holds`; `wanted` says so in words ("greater than 0").
    pub(crate) fn number(
        &mut self,
        name: &'static str,
        wanted: &str,
        holds: impl Fn(f64) -> bool,
    ) -> Option<f64> {
        let value = self.value(name)?;
        match value.as_f64() {
            Some(x) if x.is_finite() && holds(x) => Some(x),
            _ => {
                self.reject(
                    name,
                    format_args!("must be a number {wanted}, not {}", shown(value)),
                );
                None
            }
        }
    }

    pub(crate) fn boolean(&mut self, name: &'static str) -> Option<bool> {
        let value = self.value(name)?;
        let read = value.as_bool();
        if read.is_none() {
            self.reject(
                name,
                format_args!("must be true or false, not {}", shown(value)),
            );
        }
        read
    }

    /// A text.
    pub fn string(&mut self, name: &'static str) -> Option<&'a str> {
        let value = self.value(name)?;
        let read = value.as_str();
        if read.is_none() {
            self.reject(name, format_args!("must be a string, not {}", shown(value)));
        }
        read
    }

    /// One word of a closed list.
    pub fn choice<T: Copy>(&mut self, name: &'static str, words: &[(&str, T)]) -> Option<T> {
        let value = self.value(name)?;
        let found = value
            .as_str()
            .and_then(|word| words.iter().find(|(w, _)| *w == word));
        if found.is_none() {
            let list: Vec<_> = words
                .iter()
                .map(|(word, _)| format!("\"{word}\""))
                .collect();
            self.reject(
                name,
                format_args!("must be {}, not {}", list.join(" or "), shown(value)),
            );
        }
        found.map(|(_, value)| *value)
    }

    /// An object inside this one.
    pub fn object(&mut self, name: &'static str) -> Option<&'a Map<String, Value>> {
        let value = self.value(name)?;
        let read = value.as_object();
        if read.is_none() {
            self.reject(
                name,
                format_args!("must be an object, not {}", shown(value)),
            );
        }
        read
    }

    /// Notes that a required field is absent, unless something about it was noted already.
    pub fn require(&mut self, name: &str, present: bool) {
        let param = self.path_of(name);
        if !present && !self.errors.iter().any(|e| e.param == param) {
            let message = format!("missing required parameter: '{param}'");
            self.errors
                .push(FieldError::new(param, ErrorCode::MissingParameter, message));
        }
    }

    /// Reports the fields that nobody asked for, the first hundred of them, and hands the findings over.
    pub fn finish(mut self) -> Vec<FieldError> {
        let names = self.object.into_iter().flat_map(Map::keys);
        let unknown = names.filter(|name| !self.known.contains(&name.as_str()));
        let unknown: Vec<&String> = unknown.take(MOST_UNKNOWN).collect();
        for name in unknown {
            let param = self.path_of(name);
            // The distance takes the product of the lengths.
            let comparable = self.known.iter().filter(|_| name.len() <= LONGEST_TYPO);
            let nearest = comparable
                .map(|k| (strsim::damerau_levenshtein(k, name), k))
                .min();
            let hint = match nearest {
                Some((distance, known)) if distance <= 3 && distance < known.len() => {
                    format!("did you mean '{}'?", Self::at(&self.path, known))
                }
                _ => format!("known here: {}", self.known.join(", ")),
            };
            let message = format!("unknown parameter: '{}'; {hint}", shorten(&param));
            self.errors.push(FieldError::new(
                shorten(&param),
                ErrorCode::UnknownParameter,
                message,
            ));
        }
        self.errors
    }
}

/// A value as it stands in a message: its JSON, cut to a readable length.
pub(crate) fn shown(value: &Value) -> String {
    shorten(&value.to_string())
}

fn shorten(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
