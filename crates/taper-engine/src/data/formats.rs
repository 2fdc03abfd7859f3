use std::{fs::File, io::Read};

use serde_json::{Map, Value};
use taper_core::{DataFile, FieldError};

use crate::{Result, error::Doing};

/// A labelled text and the line of the file it stands on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) line: u64,
    pub(crate) text: String,
    /// The class name; an integer label is its decimal text.
    pub(crate) label: String,
}

/// What a file of text and label may look like.
const WANTED: &str = r#"each line must be an object like {"text": "…", "label": "…"}"#;
const SHOWN_ERRORS: usize = 5;

/// Reads the rows of a JSONL file, or of a CSV file when its name ends in `.csv`.
///
/// # Errors
/// The first broken lines by number, under `param`; a file without rows.
pub(crate) fn read_rows(file: &DataFile, param: &str, code: &str) -> Result<Vec<Row>> {
    let mut bytes = Vec::new();
    File::open(&file.path)
        .and_then(|mut f| f.read_to_end(&mut bytes))
        .doing(|| format!("cannot read the file {}", file.id))?;
    let refuse = |message: String| {
        FieldError::new(
            param,
            code,
            format!("{} ({}): {message}", file.filename, file.id),
        )
    };
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let (rows, problems) = if file.filename.to_ascii_lowercase().ends_with(".csv") {
        read_csv(bytes)
    } else {
        read_jsonl(bytes)
    };
    if !problems.is_empty() {
        let mut message = problems[..problems.len().min(SHOWN_ERRORS)].join("; ");
        if problems.len() > SHOWN_ERRORS {
            message.push_str(&format!(
                "; and {} more bad lines",
                problems.len() - SHOWN_ERRORS
            ));
        }
        return Err(refuse(message).into());
    }
    if rows.is_empty() {
        return Err(refuse(format!("has no rows; {WANTED}")).into());
    }
    Ok(rows)
}

fn read_jsonl(bytes: &[u8]) -> (Vec<Row>, Vec<String>) {
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    for (index, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let number = index as u64 + 1;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match json_row(line) {
            Ok((text, label)) => rows.push(Row {
                line: number,
                text,
                label,
            }),
            Err(problem) => problems.push(format!("line {number}: {problem}")),
        }
    }
    (rows, problems)
}

fn json_row(line: &[u8]) -> Result<(String, String), String> {
    let line = std::str::from_utf8(line).map_err(|_| "is not UTF-8 text".to_owned())?;
    let value: Value = serde_json::from_str(line)
        .map_err(|e| format!("is not JSON ({}); {WANTED}", without_position(&e)))?;
    let Value::Object(object) = value else {
        return Err(format!("is not an object; {WANTED}"));
    };
    Ok((text_of(&object)?, label_of(&object)?))
}

fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once(" at line ") {
        Some((what, _)) => format!("{what}, column {}", error.column()),
        None => text,
    }
}

fn text_of(object: &Map<String, Value>) -> Result<String, String> {
    match object.get("text") {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err("'text' must be a string".to_owned()),
        None => Err(format!("has no 'text'; {WANTED}")),
    }
}

fn label_of(object: &Map<String, Value>) -> Result<String, String> {
    match object.get("label") {
        Some(Value::String(label)) if !label.is_empty() => Ok(label.clone()),
        Some(Value::Number(n)) if n.is_i64() || n.is_u64() => Ok(n.to_string()),
        Some(_) => Err("'label' must be a string or an integer".to_owned()),
        None => Err(format!("has no 'label'; {WANTED}")),
    }
}

fn read_csv(bytes: &[u8]) -> (Vec<Row>, Vec<String>) {
    let mut reader = csv::ReaderBuilder::new().from_reader(bytes);
    let place =
        |headers: &csv::StringRecord, name: &str| headers.iter().position(|h| h.trim() == name);
    let columns = match reader.headers() {
        Ok(headers) => place(headers, "text").zip(place(headers, "label")),
        Err(error) => return (Vec::new(), vec![format!("line 1: {error}")]),
    };
    let Some((text, label)) = columns else {
        return (
            Vec::new(),
            vec!["line 1: the header must name the columns 'text' and 'label'".to_owned()],
        );
    };
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    let mut records = reader.into_records();
    loop {
        let line = records.reader().position().line();
        let Some(record) = records.next() else { break };
        match record {
            Ok(record) if record[label].trim().is_empty() => {
                problems.push(format!("line {line}: 'label' is empty"))
            }
            Ok(record) => rows.push(Row {
                line,
                text: record[text].to_owned(),
                label: record[label].trim().to_owned(),
            }),
            Err(error) => problems.push(format!("line {line}: {error}")),
        }
    }
    (rows, problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jsonl_takes_string_and_integer_labels_and_blank_lines() {
        let (rows, problems) = read_jsonl(
            b"{\"text\":\"a\",\"label\":1}\r\n\n{\"text\":\"b\",\"label\":\"x\",\"other\":2}\n",
        );
        assert!(problems.is_empty());
        let got: Vec<_> = rows
            .iter()
            .map(|r| (r.line, r.text.as_str(), r.label.as_str()))
            .collect();
        assert_eq!(got, [(1, "a", "1"), (3, "b", "x")]);
    }

    #[test]
    fn every_broken_line_is_named() {
        let (_, problems) = read_jsonl(b"{\"text\":\"a\"}\n{\"text\":1,\"label\":1}\n{\n[1]\n{\"text\":\"a\",\"label\":1.5}\n\xff\xfe\n");
        let starts = [
            "line 1: has no 'label'",
            "line 2: 'text' must",
            "line 3: is not JSON (EOF",
            "line 4: is not an object",
            "line 5: 'label' must",
            "line 6: is not UTF-8",
        ];
        assert_eq!(problems.len(), starts.len());
        for (problem, start) in problems.iter().zip(starts) {
            assert!(problem.starts_with(start), "{problem}");
        }
    }

    #[test]
    fn csv_knows_its_lines() {
        let (rows, problems) =
            read_csv(b"label,text\npos,\"two\nlines, quoted\"\nneg,b\n,c\nneg\n");
        let got: Vec<_> = rows
            .iter()
            .map(|r| (r.line, r.text.as_str(), r.label.as_str()))
            .collect();
        assert_eq!(got, [(2, "two\nlines, quoted", "pos"), (4, "b", "neg")]);
        assert_eq!(problems.len(), 2);
        assert!(
            problems[0].starts_with("line 5:") && problems[1].starts_with("line 6:"),
            "{problems:?}"
        );
        assert!(read_csv(b"a,b\n1,2\n").1[0].contains("header"));
    }
}
