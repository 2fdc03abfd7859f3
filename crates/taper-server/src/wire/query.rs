//! Query strings, read name by name so that every finding has its `param` and a misspelt name is not dropped in silence.

use std::{collections::BTreeSet, ops::RangeInclusive};

use axum::{extract::FromRequestParts, http::request::Parts};
use taper_core::{ErrorCode, FieldError, SpecError};
use taper_store::MetadataFilter;

use super::error::{ApiError, readable};

/// What Azure's client of OpenAI's API puts on every request; there is one version here.
const AZURE_VERSION: &str = "api-version";
/// Pairs of a metadata filter; each is a condition of its own for the database.
const MAX_PAIRS: usize = 16;

/// A query that has been read as `T`.
pub(crate) struct Query<T>(pub(crate) T);

/// What a route's query can hold.
pub(crate) trait FromPairs: Sized {
    fn read(pairs: &mut Pairs) -> Self;
}

impl<S: Send + Sync, T: FromPairs> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let read = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let Ok(axum::extract::Query(pairs)) = read else {
            return Err(ApiError::bad_request("the query string cannot be read"));
        };
        let mut pairs = Pairs::new(pairs);
        let value = T::read(&mut pairs);
        pairs.finish()?;
        Ok(Self(value))
    }
}

/// The names and values of a query, and what was found wrong with them.
pub(crate) struct Pairs {
    pairs: Vec<(String, String)>,
    known: Vec<&'static str>,
    errors: Vec<FieldError>,
}

impl Pairs {
    fn new(pairs: Vec<(String, String)>) -> Self {
        Self {
            pairs,
            known: Vec::new(),
            errors: Vec::new(),
        }
    }

    pub(crate) fn reject(&mut self, name: &str, message: String) {
        self.errors.push(FieldError::invalid(name, message));
    }

    /// The value of a name that may stand once.
    pub(crate) fn text(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        let mut values = self.pairs.iter().filter(|(key, _)| key == name);
        let value = values.next().map(|(_, value)| value.clone());
        if values.next().is_some() {
            self.reject(name, format!("'{name}' may stand only once in the query"));
        }
        value
    }

    /// A whole number in a range.
    pub(crate) fn integer(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let text = self.text(name)?;
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse() {
            Ok(number) if digits && range.contains(&number) => Some(number),
            _ => {
                let (least, most) = (range.start(), range.end());
                let message = format!(
                    "'{name}' must be a whole number from {least} to {most}, not {}",
                    readable(&text)
                );
                self.reject(name, message);
                None
            }
        }
    }

    /// One word of a closed list.
    pub(crate) fn choice<T: Copy>(&mut self, name: &'static str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(name)?;
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let list: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            let message = format!(
                "'{name}' must be {}, not {}",
                list.join(" or "),
                readable(&text)
            );
            self.reject(name, message);
        }
        found.map(|(_, value)| *value)
    }

    /// Elements of a list with commas between them, at most `most`.
    pub(crate) fn list(&mut self, name: &'static str, most: usize) -> Option<Vec<String>> {
        let text = self.text(name)?;
        let list: Vec<String> = text.split(',').map(str::to_owned).collect();
        if list.len() > most || list.iter().any(String::is_empty) {
            self.reject(
                name,
                format!("'{name}' takes 1 to {most} elements with commas between them"),
            );
        }
        Some(list)
    }

    /// OpenAI's filter: `metadata[key]=value`, or `metadata=null`.
    pub(crate) fn metadata(&mut self) -> MetadataFilter {
        let pairs = self.map("metadata");
        if pairs.len() > MAX_PAIRS {
            let message =
                format!("'metadata' takes at most {MAX_PAIRS} pairs, as many as a job can have");
            self.reject("metadata", message);
        }
        let keys: BTreeSet<&str> = pairs.iter().map(|(key, _)| key.as_str()).collect();
        if keys.len() < pairs.len()
            || keys
                .iter()
                .any(|key| key.is_empty() || key.contains(['[', ']']))
        {
            let message =
                "'metadata' takes metadata[key]=value, each key once, without brackets in it";
            self.reject("metadata", message.to_owned());
        }
        match self.text("metadata").as_deref() {
            Some("null") if pairs.is_empty() => return MetadataFilter::Empty,
            Some(_) => self.reject(
                "metadata",
                "'metadata' takes metadata[key]=value, or null by itself".to_owned(),
            ),
            None => {}
        }
        MetadataFilter::Pairs(pairs)
    }

    /// The pairs `name[key]=value`.
    fn map(&mut self, name: &'static str) -> Vec<(String, String)> {
        let (taken, left) = std::mem::take(&mut self.pairs)
            .into_iter()
            .partition(|(key, _)| inner_key(name, key).is_some());
        self.pairs = left;
        let taken: Vec<(String, String)> = taken;
        taken
            .into_iter()
            .filter_map(|(key, value)| Some((inner_key(name, &key)?.to_owned(), value)))
            .collect()
    }

    fn finish(mut self) -> Result<(), SpecError> {
        for (name, _) in &self.pairs {
            if name == AZURE_VERSION || self.known.contains(&name.as_str()) {
                continue;
            }
            let nearest = self
                .known
                .iter()
                .map(|known| (strsim::damerau_levenshtein(known, name), known))
                .min();
            let hint = match nearest {
                Some((distance, known)) if distance <= 2 && distance < known.len() => {
                    format!("did you mean '{known}'?")
                }
                _ => format!("known here: {}", self.known.join(", ")),
            };
            let name = readable(name);
            let message = format!("unknown query parameter: '{name}'; {hint}");
            self.errors
                .push(FieldError::new(name, ErrorCode::UnknownParameter, message));
        }
        SpecError::check(self.errors)
    }
}

fn inner_key<'a>(name: &str, key: &'a str) -> Option<&'a str> {
    key.strip_prefix(name)?.strip_prefix('[')?.strip_suffix(']')
}
