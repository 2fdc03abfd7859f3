//! What chat templates expect to find beside Jinja itself, as transformers provides it.

use std::io;

use minijinja::{Environment, Error, ErrorKind, State, Value, value::Kwargs};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

pub(super) fn add(environment: &mut Environment<'static>) {
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", tojson);
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// The date that Llama's templates fall back to, instead of today's: a run that goes on tomorrow must make the same tokens.
fn strftime_now(format: &str) -> String {
    let mut text = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        match letters.next() {
            Some('d') => text.push_str("26"),
            Some('m') => text.push_str("07"),
            Some('b') => text.push_str("Jul"),
            Some('B') => text.push_str("July"),
            Some('Y') => text.push_str("2024"),
            Some('y') => text.push_str("24"),
            Some('a') => text.push_str("Fri"),
            Some('A') => text.push_str("Friday"),
            Some('F') => text.push_str("2024-07-26"),
            Some('j') => text.push_str("208"),
            Some('H' | 'M' | 'S') => text.push_str("00"),
            Some(other) => text.push(other),
            None => text.push('%'),
        }
    }
    text
}

/// JSON as Python's `json.dumps(…, ensure_ascii=False)` writes it; Jinja's own filter escapes what HTML cannot take.
fn tojson(state: &State<'_, '_>, value: Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    for ignored in ["ensure_ascii", "separators", "sort_keys"] {
        let _: Option<Value> = options.get(ignored)?;
    }
    options.assert_all_used()?;
    let written = match indent {
        Some(width) => write(
            &value,
            PrettyFormatter::with_indent(" ".repeat(width.min(16)).as_bytes()),
        ),
        None => write(&value, PythonFormatter),
    };
    let text = written.map_err(|e| Error::new(ErrorKind::BadSerialization, e.to_string()))?;
    state.consume_fuel(text.len() as u64 / 64)?;
    Ok(text)
}

fn write(value: &Value, formatter: impl Formatter) -> Result<String, serde_json::Error> {
    let mut bytes = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes a space after commas and colons.
struct PythonFormatter;

impl Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

/// Turns `{% generation %}` … `{% endgeneration %}`, by which some templates mark the assistant's part for transformers, into a
/// block that Jinja knows and that changes nothing.
pub(super) fn without_generation_marks(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, block) = rest.split_at(start + 2);
        text.push_str(before);
        let end = block.find("%}").unwrap_or(block.len());
        let inner = &block[..end];
        match inner.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+') {
            "generation" => text.push_str(&inner.replace("generation", "if true")),
            "endgeneration" => text.push_str(&inner.replace("endgeneration", "endif")),
            _ => text.push_str(inner),
        }
        rest = &block[end..];
    }
    text.push_str(rest);
    text
}
