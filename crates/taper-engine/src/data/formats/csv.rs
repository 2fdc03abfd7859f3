use serde_json::{Map, Value};

use super::{ANY, Kind, Reading, kind::FIELDS};

pub(super) fn read(bytes: &[u8], reading: &mut Reading) {
    let mut reader = csv::ReaderBuilder::new().from_reader(bytes);
    let columns: Vec<(usize, String)> = match reader.headers() {
        Ok(headers) => headers
            .iter()
            .map(str::trim)
            .enumerate()
            .filter(|(_, name)| FIELDS.contains(name))
            .map(|(place, name)| (place, name.to_owned()))
            .collect(),
        Err(error) => return reading.problems.add(1, &error.to_string()),
    };
    if Kind::among(|field| columns.iter().any(|(_, name)| name == field)).is_none() {
        if !bytes.is_empty() {
            reading
                .problems
                .add(1, &format!("the header must name the columns; {ANY}"));
        }
        return;
    }
    let mut records = reader.into_records();
    loop {
        let line = records.reader().position().line();
        let Some(record) = records.next() else { break };
        match record {
            Ok(record) => {
                let object: Map<String, Value> = columns
                    .iter()
                    .map(|(place, name)| (name.clone(), cell(name, &record[*place])))
                    .collect();
                reading.take(line, &object);
            }
            Err(error) => reading.problems.add(line, &error.to_string()),
        }
    }
}

/// The value of a cell; lists stand in it as JSON.
fn cell(column: &str, text: &str) -> Value {
    match column {
        "label" => Value::from(text.trim()),
        "messages" | "conversations" => {
            serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
        }
        _ => Value::from(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Content, Row};

    fn rows(text: &[u8]) -> Reading {
        let mut reading = Reading::default();
        read(text, &mut reading);
        reading
    }

    #[test]
    fn csv_knows_its_lines() {
        let reading = rows(b"label,text\npos,\"two\nlines, quoted\"\n neg ,b\n,c\nneg\n");
        let row = |line, text: &str, label: &str| Row {
            line,
            content: Content::Labelled {
                text: text.to_owned(),
                label: label.to_owned(),
            },
        };
        assert_eq!(
            reading.rows,
            [row(2, "two\nlines, quoted", "pos"), row(4, "b", "neg")]
        );
        let message = reading.problems.message().unwrap();
        assert!(
            message.starts_with("line 5: 'label' is empty; line 6: "),
            "{message}"
        );
        let message = rows(b"a,b\n1,2\n").problems.message().unwrap();
        assert!(message.starts_with("line 1: the header"), "{message}");
    }

    #[test]
    fn other_columns_make_other_kinds() {
        let reading = rows(b"id, prompt,completion\n1,p,c\n");
        assert!(
            matches!(&reading.rows[0].content, Content::Completion { prompt, .. } if prompt == "p")
        );
        let reading = rows(
            b"messages\n\"[{\"\"role\"\": \"\"assistant\"\", \"\"content\"\": \"\"a\"\"}]\"\nx\n",
        );
        assert!(
            matches!(&reading.rows[0].content, Content::Chat { messages, .. } if messages.len() == 1)
        );
        let message = reading.problems.message().unwrap();
        assert!(
            message.starts_with("line 3: 'messages' must be a list"),
            "{message}"
        );
    }
}
