//! From the bytes of an uploaded file to rows.

mod chat;
mod csv;
mod json;
mod jsonl;
mod kind;
mod label;
mod message;
mod parquet;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
};

#[cfg(any(test, fuzzing))]
pub(super) use jsonl::{is_spread, read as read_jsonl};
use kind::{ANY, Kind};
use serde_json::{Map, Value};
use taper_core::{DATA_FIELDS, DataFile};

use super::{Part, Problems, Row};
use crate::{Result, error::Doing};

/// How the bytes of a file are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Jsonl,
    Csv,
    Parquet,
}

impl Format {
    /// The format by the ending of a file's name; JSONL when it says nothing.
    pub(crate) fn of(filename: &str) -> Self {
        let name = filename.to_ascii_lowercase();
        if name.ends_with(".csv") || name.ends_with(".tsv") {
            Self::Csv
        } else if name.ends_with(".parquet") {
            Self::Parquet
        } else {
            Self::Jsonl
        }
    }
}

/// Reads the rows of a file; the first of them decides of which kind all have to be. `columns` says under which name a file has a field.
///
/// # Errors
/// The first broken lines by number; a file without rows, or of another format than its name says.
pub(crate) fn read_rows(
    file: &DataFile,
    columns: &BTreeMap<String, String>,
    part: Part,
) -> Result<Vec<Row>> {
    let refuse =
        |message: String| part.refuse(format!("{} ({}): {message}", file.filename, file.id));
    let doing = || format!("cannot read the file {}", file.id);
    let mut source = File::open(&file.path).doing(doing)?;
    let mut start = Vec::new();
    source
        .by_ref()
        .take(8)
        .read_to_end(&mut start)
        .and_then(|_| source.seek(SeekFrom::Start(0)))
        .doing(doing)?;
    let format = Format::of(&file.filename);
    if let Some(message) = wrong_name(&start, format) {
        return Err(refuse(message.to_owned()).into());
    }
    let mut reading = Reading::new(columns.clone());
    if format == Format::Parquet {
        parquet::read(source, &mut reading);
    } else {
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes).doing(doing)?;
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        match format {
            Format::Csv => csv::read(text, &mut reading),
            _ => jsonl::read(text, &mut reading),
        }
    }
    if let Some(message) = reading.problems.message() {
        return Err(refuse(message).into());
    }
    if reading.rows.is_empty() {
        return Err(refuse(format!("has no rows; {ANY}")).into());
    }
    Ok(reading.rows)
}

/// What is to be said of a first row that is of no kind.
fn nothing_known(object: &Map<String, Value>) -> String {
    const SHOWN: usize = 20;
    let names: Vec<_> = object
        .keys()
        .take(SHOWN)
        .map(|name| format!("'{name}'"))
        .collect();
    let names = if names.is_empty() {
        "no fields".to_owned()
    } else {
        names.join(", ")
    };
    let mapping = kind::mapping(&["text", "label"]);
    format!("has no set of fields that taper reads; {ANY}; it has {names}; {mapping}")
}

/// Names a well-known binary format by its first bytes, since a JSON parser would only stumble over them.
fn wrong_name(start: &[u8], format: Format) -> Option<&'static str> {
    match (start, format) {
        ([b'P', b'A', b'R', b'1', ..], Format::Jsonl | Format::Csv) => {
            Some("is a Parquet file; upload it under a name that ends in .parquet")
        }
        ([0x1f, 0x8b, ..] | [b'P', b'K', 3, 4, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..], _) => {
            Some("is compressed; unpack it before the upload")
        }
        ([b'%', b'P', b'D', b'F', ..], _) => {
            Some("is a PDF; taper reads JSONL, CSV and Parquet files")
        }
        ([0xff, 0xfe, ..] | [0xfe, 0xff, ..], _)
        | ([0, b'{' | b'[' | b't' | b'l', ..] | [b'{' | b'[' | b't' | b'l', 0, ..], _) => {
            Some("is UTF-16 text; save it as UTF-8")
        }
        _ => None,
    }
}

/// What a value is, in the middle of a sentence.
pub(super) fn shown(value: &Value) -> String {
    const MOST: usize = 60;
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(yes) => yes.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::Array(items) if items.is_empty() => "an empty list".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) => match text.char_indices().nth(MOST) {
            Some((place, _)) => format!("{:?}…", &text[..place]),
            None => format!("{text:?}"),
        },
    }
}

/// Rows read so far, and what was wrong with others.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// The kind of all rows, and the line that told it.
    kind: Option<(Kind, u64)>,
    pub(super) rows: Vec<Row>,
    pub(super) problems: Problems,
    /// Fields and the names that the file has for them.
    columns: BTreeMap<String, String>,
}

impl Reading {
    pub(super) fn new(columns: BTreeMap<String, String>) -> Self {
        Self {
            columns,
            ..Self::default()
        }
    }

    /// The field that a column of the file is, where it is one that taper reads.
    fn field_of(&self, column: &str) -> Option<&str> {
        let mapped = self.columns.iter().find(|(_, name)| *name == column);
        if let Some((field, _)) = mapped {
            return Some(field);
        }
        let own = DATA_FIELDS.into_iter().find(|field| *field == column);
        own.filter(|field| !self.columns.contains_key(*field))
    }

    /// # Errors
    /// A column that the job names and the file does not have.
    fn check_mapping(&self, has: impl Fn(&str) -> bool, names: &[String]) -> Result<(), String> {
        match self.columns.values().find(|column| !has(column)) {
            None => Ok(()),
            Some(column) => Err(format!(
                "has no column '{column}', which 'columns' of the job names; it has {}",
                names.join(", ")
            )),
        }
    }

    /// What a line should look like, as far as that is known.
    fn wanted(&self) -> &'static str {
        self.kind.map_or(ANY, |(kind, _)| kind.wanted())
    }

    /// Takes an object whose names are those of the file.
    fn take(&mut self, line: u64, object: Map<String, Value>) {
        if self.columns.is_empty() {
            return self.take_fields(line, &object);
        }
        let names: Vec<_> = object.keys().map(|name| format!("'{name}'")).collect();
        if let Err(problem) = self.check_mapping(|column| object.contains_key(column), &names) {
            return self.problems.add(line, &problem);
        }
        let named = |(name, value): (String, Value)| {
            let field = match self.field_of(&name) {
                Some(field) => field.to_owned(),
                // Its place is another column's.
                None if DATA_FIELDS.contains(&name.as_str()) => return None,
                None => name,
            };
            Some((field, value))
        };
        let fields: Map<_, _> = object.into_iter().filter_map(named).collect();
        self.take_fields(line, &fields);
    }

    /// Takes an object whose names are those of the fields.
    fn take_fields(&mut self, line: u64, object: &Map<String, Value>) {
        match self.content(line, object) {
            Ok(content) => self.rows.push(Row { line, content }),
            Err(problem) => self.problems.add(line, &problem),
        }
    }

    fn content(
        &mut self,
        line: u64,
        object: &Map<String, Value>,
    ) -> Result<super::Content, String> {
        let own = Kind::of(object);
        let (kind, first) = match self.kind {
            Some(known) => known,
            None => {
                let own = own.ok_or_else(|| nothing_known(object))?;
                *self.kind.insert((own, line))
            }
        };
        let content = kind.read(object)?;
        match own {
            Some(own) if own != kind => Err(format!(
                "is {}, but line {first} is {}; all rows must be of one kind",
                own.name(),
                kind.name()
            )),
            _ => Ok(content),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Content;

    fn file(name: &str, content: &[u8]) -> (tempfile::TempDir, DataFile) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        std::fs::write(&path, content).unwrap();
        let file = DataFile {
            id: "file-1".to_owned(),
            filename: name.to_owned(),
            path,
            sha256: String::new(),
        };
        (dir, file)
    }

    fn refused(name: &str, content: &[u8]) -> String {
        let (_dir, file) = file(name, content);
        read_rows(&file, &BTreeMap::new(), Part::Training)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn the_name_decides_the_format() {
        let (_dir, csv) = file("A.CSV", b"\xef\xbb\xbftext\nhello\n");
        assert_eq!(
            read_rows(&csv, &BTreeMap::new(), Part::Training).unwrap(),
            [Row {
                line: 2,
                content: Content::Text("hello".to_owned())
            }]
        );
        assert_eq!(Format::of("x.jsonl"), Format::Jsonl);
        assert_eq!(Format::of("x.Parquet"), Format::Parquet);
    }

    #[test]
    fn empty_files_and_other_formats_are_refused_in_words() {
        for empty in [&b""[..], b"\n\n", b"\xef\xbb\xbf"] {
            assert!(refused("a.jsonl", empty).contains("has no rows"));
        }
        assert!(refused("a.csv", b"text,label\n").contains("has no rows"));
        assert!(refused("a.jsonl", b"PAR1....").contains("ends in .parquet"));
        assert!(refused("a.jsonl", b"\x1f\x8b\x08....").contains("compressed"));
        assert!(refused("a.csv", b"PK\x03\x04....").contains("compressed"));
        assert!(refused("a.jsonl", b"%PDF-1.7").contains("PDF"));
        assert!(refused("a.parquet", b"{\"text\":1}").contains("Parquet"));
        for utf16 in [
            &b"\xff\xfe{\0\"\0"[..],
            b"\xfe\xff\0{",
            b"{\0\"\0",
            b"\0t\0e",
        ] {
            for name in ["a.jsonl", "a.csv"] {
                assert!(refused(name, utf16).ends_with("is UTF-16 text; save it as UTF-8"));
            }
        }
    }
}
