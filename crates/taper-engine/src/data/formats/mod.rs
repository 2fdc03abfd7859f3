//! From the bytes of an uploaded file to rows.

mod chat;
mod csv;
mod jsonl;
mod kind;
mod parquet;

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
};

#[cfg(any(test, fuzzing))]
pub(super) use jsonl::read as read_jsonl;
use kind::{ANY, Kind};
use serde_json::{Map, Value};
use taper_core::DataFile;

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
        if name.ends_with(".csv") {
            Self::Csv
        } else if name.ends_with(".parquet") {
            Self::Parquet
        } else {
            Self::Jsonl
        }
    }
}

/// Reads the rows of a file; the first of them decides of which kind all have to be.
///
/// # Errors
/// The first broken lines by number; a file without rows, or of another format than its name says.
pub(crate) fn read_rows(file: &DataFile, part: Part) -> Result<Vec<Row>> {
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
    let mut reading = Reading::default();
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
        _ => None,
    }
}

/// Rows read so far, and what was wrong with others.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// The kind of all rows, and the line that told it.
    kind: Option<(Kind, u64)>,
    pub(super) rows: Vec<Row>,
    pub(super) problems: Problems,
}

impl Reading {
    /// What a line should look like, as far as that is known.
    fn wanted(&self) -> &'static str {
        self.kind.map_or(ANY, |(kind, _)| kind.wanted())
    }

    fn take(&mut self, line: u64, object: &Map<String, Value>) {
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
                let own =
                    own.ok_or_else(|| format!("has no set of fields that taper reads; {ANY}"))?;
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
        read_rows(&file, Part::Training).unwrap_err().to_string()
    }

    #[test]
    fn the_name_decides_the_format() {
        let (_dir, csv) = file("A.CSV", b"\xef\xbb\xbftext\nhello\n");
        assert_eq!(
            read_rows(&csv, Part::Training).unwrap(),
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
    }
}
