use serde_json::{Map, Value};

use super::{ANY, Kind, Reading, kind::mapping};

/// What parts the cells of a file where it is no comma.
const SEPARATORS: [u8; 3] = [b';', b'\t', b'|'];
/// Names that a message lists.
const SHOWN: usize = 20;

pub(super) fn read(bytes: &[u8], reading: &mut Reading) {
    if let Err((line, problem)) = check_text(bytes) {
        return reading.problems.add(line, &problem);
    }
    let separator = separator(bytes, reading);
    if let Err((line, problem)) = check_quotes(bytes, separator) {
        return reading.problems.add(line, &problem);
    }
    let mut reader = ::csv::ReaderBuilder::new()
        .delimiter(separator)
        .flexible(true)
        .from_reader(bytes);
    let names: Vec<String> = match reader.headers() {
        Ok(headers) => headers.iter().map(|name| name.trim().to_owned()).collect(),
        Err(error) => return reading.problems.add(1, &error.to_string()),
    };
    let columns = match columns(&names, reading) {
        Ok(columns) => columns,
        Err(_) if bytes.is_empty() => return,
        Err(problem) => return reading.problems.add(1, &problem),
    };
    let mut records = reader.into_records();
    loop {
        let line = records.reader().position().line();
        let Some(record) = records.next() else { break };
        match record {
            Ok(record) if record.len() == names.len() => {
                let cell = |(place, field): &(usize, String)| {
                    (field.clone(), Value::from(&record[*place]))
                };
                reading.take_fields(line, &columns.iter().map(cell).collect::<Map<_, _>>());
            }
            Ok(record) => {
                let problem = format!(
                    "has {} cells, but the header names {} columns; a cell with a separator in it must stand in quotes",
                    record.len(),
                    names.len()
                );
                reading.problems.add(line, &problem);
            }
            Err(error) => reading.problems.add(line, &error.to_string()),
        }
    }
}

/// The columns that are read: where they stand, and the field that each is.
fn columns(names: &[String], reading: &Reading) -> Result<Vec<(usize, String)>, String> {
    let columns: Vec<(usize, String)> = names
        .iter()
        .enumerate()
        .filter_map(|(place, name)| Some((place, reading.field_of(name)?.to_owned())))
        .collect();
    for (index, (place, field)) in columns.iter().enumerate() {
        if columns[..index].iter().any(|(_, other)| other == field) {
            return Err(format!(
                "the header names the column '{}' twice; leave one of them out",
                names[*place]
            ));
        }
    }
    let shown: Vec<_> = names.iter().take(SHOWN).map(|n| format!("'{n}'")).collect();
    reading.check_mapping(|column| names.iter().any(|name| name == column), &shown)?;
    if Kind::among(|field| columns.iter().any(|(_, name)| name == field)).is_none() {
        return Err(format!(
            "the header must name the columns, and it has {}; {ANY}; {}",
            shown.join(", "),
            mapping(&["text", "label"])
        ));
    }
    Ok(columns)
}

/// The separator by which the header has columns that taper reads; a comma if none does.
fn separator(bytes: &[u8], reading: &Reading) -> u8 {
    let header = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    let known = |separator: &u8| {
        let names = header.split(|b| b == separator);
        let names: Vec<_> = names
            .map(|name| {
                String::from_utf8_lossy(name)
                    .trim()
                    .trim_matches('"')
                    .trim()
                    .to_owned()
            })
            .collect();
        columns(&names, reading).is_ok() && (names.len() > 1 || !header.contains(&b','))
    };
    if known(&b',') && !SEPARATORS.iter().any(|s| header.contains(s)) {
        return b',';
    }
    let others = SEPARATORS.into_iter().filter(|s| header.contains(s));
    others.into_iter().find(|s| known(s)).unwrap_or(b',')
}

fn check_text(bytes: &[u8]) -> Result<(), (u64, String)> {
    let Err(error) = std::str::from_utf8(bytes) else {
        return Ok(());
    };
    let line = bytes[..error.valid_up_to()].iter().filter(|b| **b == b'\n');
    Err((
        line.count() as u64 + 1,
        "is not UTF-8 text; save the file as UTF-8".to_owned(),
    ))
}

/// Looks at the quotes, which readers of CSV forgive: behind one that is never closed all rows would be one cell.
fn check_quotes(bytes: &[u8], separator: u8) -> Result<(), (u64, String)> {
    let (mut line, mut place, mut fresh) = (1_u64, 0, true);
    while let Some(byte) = bytes.get(place) {
        match byte {
            b'"' if fresh => {
                let (opened, end) = (line, closing(bytes, place));
                line += newlines(&bytes[place..end.unwrap_or(place)]);
                let Some(end) = end else {
                    return Err((opened, "has a quote that is never closed".to_owned()));
                };
                match bytes.get(end) {
                    None | Some(b'\n' | b'\r') => {}
                    Some(other) if *other == separator => {}
                    Some(_) => {
                        let problem = "has text behind the quote that closes a cell; a quote inside a cell must be written twice";
                        return Err((line, problem.to_owned()));
                    }
                }
                (place, fresh) = (end, false);
                continue;
            }
            b' ' if fresh => {
                let blanks = bytes[place..].iter().take_while(|b| **b == b' ').count();
                if bytes.get(place + blanks) == Some(&b'"') {
                    let problem = "has a blank before the quote that opens a cell, so that the quote would be part of the text";
                    return Err((line, problem.to_owned()));
                }
                fresh = false;
            }
            b'\n' => (line, fresh) = (line + 1, true),
            b'\r' => fresh = true,
            other => fresh = *other == separator,
        }
        place += 1;
    }
    Ok(())
}

/// The place behind the quote that closes a cell; in it two quotes stand for one.
fn closing(bytes: &[u8], opening: usize) -> Option<usize> {
    let mut place = opening + 1;
    loop {
        place += bytes[place..].iter().position(|b| *b == b'"')?;
        if bytes.get(place + 1) != Some(&b'"') {
            return Some(place + 1);
        }
        place += 2;
    }
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|b| **b == b'\n').count() as u64
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

    #[test]
    fn other_separators_are_seen_in_the_header() {
        for separator in [";", "\t", "|", ","] {
            let text = "text,label\na,pos\n\"b, c\",neg\n".replace(',', separator);
            let reading = rows(text.as_bytes());
            assert_eq!(reading.problems.message(), None, "{separator}");
            let labels: Vec<_> = reading.rows.iter().map(|r| r.label().unwrap()).collect();
            assert_eq!(labels, ["pos", "neg"], "{separator}");
        }
        let one = rows(b"text\na; b\n");
        assert!(matches!(&one.rows[0].content, Content::Text(text) if text == "a; b"));
        let quoted = rows(b"\"text\";\"label\"\n\"a\";\"x\"\n");
        assert_eq!(quoted.rows.len(), 1);
    }

    #[test]
    fn nothing_of_a_row_is_lost() {
        for (text, told) in [
            (
                "text,label\n\"a,x\nb,y\nc,z\n",
                "line 2: has a quote that is never closed",
            ),
            (
                "text,label\na,x\n\"b\nc\"d,y\n",
                "line 4: has text behind the quote",
            ),
            (
                "text,label\na,x\nb, \"y\"\n",
                "line 3: has a blank before the quote",
            ),
            (
                "text,label\na,x,y\n",
                "line 2: has 3 cells, but the header names 2",
            ),
            (
                "text,label\na\n",
                "line 2: has 1 cells, but the header names 2",
            ),
            (
                "text,label,label\na,x,y\n",
                "line 1: the header names the column 'label' twice",
            ),
        ] {
            let message = rows(text.as_bytes()).problems.message().unwrap();
            assert!(message.starts_with(told), "{message}");
        }
        let message = rows(b"text,label\ncaf\xe9,x\n").problems.message().unwrap();
        assert!(message.starts_with("line 2: is not UTF-8"), "{message}");
        let inch = rows(b"text,label\n5\" wide,x\n\"a \"\"b\"\"\",y\n");
        assert_eq!(inch.problems.message(), None);
        assert!(
            matches!(&inch.rows[1].content, Content::Labelled { text, .. } if text == "a \"b\"")
        );
    }

    #[test]
    fn the_job_may_say_which_columns_it_means() {
        let columns = [("text", "review"), ("label", "stars")];
        let mut reading = Reading::new(columns.map(|(f, c)| (f.to_owned(), c.to_owned())).into());
        read(b"review;stars;text\ngood;5;other\n", &mut reading);
        assert_eq!(reading.problems.message(), None);
        let wanted = Content::Labelled {
            text: "good".to_owned(),
            label: "5".to_owned(),
        };
        assert_eq!(reading.rows[0].content, wanted);
        let message = rows(b"review,stars\na,1\n").problems.message().unwrap();
        assert!(
            message.contains("'review', 'stars'") && message.contains(r#""columns": {"text": "…""#),
            "{message}"
        );
        let mut wrong = Reading::new([("text".to_owned(), "body".to_owned())].into());
        read(b"review,label\na,1\n", &mut wrong);
        let message = wrong.problems.message().unwrap();
        assert!(message.contains("no column 'body'"), "{message}");
    }
}
