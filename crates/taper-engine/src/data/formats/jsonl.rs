use serde_json::{Map, Value};

use super::{
    Reading,
    json::{Strict, TWICE},
};

pub(in crate::data) fn read(bytes: &[u8], reading: &mut Reading) {
    if let Some(start) = spread(bytes) {
        return read_spread(bytes, start, reading);
    }
    for (index, line) in bytes.split(|b| *b == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let number = index as u64 + 1;
        match object(line, reading.wanted()) {
            Ok(object) => reading.take(number, object),
            Err(problem) => reading.problems.add(number, &problem),
        }
    }
}

/// Whether lines of the file are no rows by themselves.
#[cfg(any(test, fuzzing))]
pub(in crate::data) fn is_spread(bytes: &[u8]) -> bool {
    spread(bytes).is_some()
}

/// Where the values begin of a file that is a JSON array, or whose objects stand on several lines each.
fn spread(bytes: &[u8]) -> Option<usize> {
    let start = bytes.iter().position(|b| !b.is_ascii_whitespace())?;
    let line = bytes[start..].split(|b| *b == b'\n').next()?;
    match line.trim_ascii() {
        [b'[', ..] => Some(start + 1),
        [b'{'] => Some(start),
        _ => None,
    }
}

/// Reads objects one after the other, wherever their lines end.
fn read_spread(bytes: &[u8], mut place: usize, reading: &mut Reading) {
    let array = place > 0 && bytes[place - 1] == b'[';
    let (mut line, mut counted) = (1, 0);
    loop {
        let between = |b: &u8| b.is_ascii_whitespace() || (array && *b == b',');
        place += bytes[place..].iter().take_while(|b| between(b)).count();
        line += bytes[counted..place]
            .iter()
            .filter(|b| **b == b'\n')
            .count() as u64;
        counted = place;
        match bytes.get(place) {
            None if array => {
                let problem =
                    "the array that the file begins with is never closed: the file is cut off";
                return reading.problems.add(line, problem);
            }
            None => return,
            Some(b']') if array => {
                let rest = &bytes[place + 1..];
                if !rest.iter().all(u8::is_ascii_whitespace) {
                    reading
                        .problems
                        .add(line, "text stands behind the array's end");
                }
                return;
            }
            Some(_) => {}
        }
        let mut values =
            serde_json::Deserializer::from_slice(&bytes[place..]).into_iter::<Strict>();
        match values.next() {
            Some(Ok(Strict(Value::Object(object)))) => reading.take(line, object),
            Some(Ok(Strict(_))) => {
                let problem = format!("is not an object; {}", reading.wanted());
                reading.problems.add(line, &problem);
            }
            Some(Err(error)) => {
                let problem = told(&error, &bytes[place..], reading.wanted());
                let further = error.line().saturating_sub(1) as u64;
                return reading.problems.add(line + further, &problem);
            }
            None => return,
        }
        place += values.byte_offset();
    }
}

fn object(line: &[u8], wanted: &str) -> Result<Map<String, Value>, String> {
    let text = std::str::from_utf8(line)
        .map_err(|error| format!("is not UTF-8 text (byte {})", error.valid_up_to() + 1))?;
    match serde_json::from_str(text) {
        Ok(Strict(Value::Object(object))) => Ok(object),
        Ok(Strict(_)) => Err(format!("is not an object; {wanted}")),
        Err(error) => Err(told(&error, line, wanted)),
    }
}

fn told(error: &serde_json::Error, text: &[u8], wanted: &str) -> String {
    let message = error.to_string();
    let what = message.split(" at line ").next().unwrap_or_default();
    if what.starts_with(TWICE) {
        return what.to_owned();
    }
    let line = text.split(|b| *b == b'\n').nth(error.line().max(1) - 1);
    let place = error.column().saturating_sub(1);
    let rest = line.and_then(|line| line.get(place..)).unwrap_or_default();
    // What Python's `json` writes for numbers that JSON has no word for.
    for name in ["NaN", "Infinity", "-Infinity"] {
        let word = name.trim_start_matches('-').as_bytes();
        if rest.starts_with(word) || rest.starts_with(name.as_bytes()) {
            return format!(
                "is not JSON: {name} (column {}) is no number there",
                error.column()
            );
        }
    }
    format!("is not JSON ({what}, column {}); {wanted}", error.column())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Content;

    fn rows(text: &[u8]) -> Reading {
        let mut reading = Reading::default();
        read(text, &mut reading);
        reading
    }

    #[test]
    fn jsonl_takes_string_and_integer_labels_and_blank_lines() {
        let reading = rows(
            b"{\"text\":\"a\",\"label\":1}\r\n\n{\"text\":\"b\",\"label\":\"x\",\"other\":2}\n",
        );
        assert_eq!(reading.problems.message(), None);
        let got: Vec<_> = reading
            .rows
            .iter()
            .map(|r| (r.line, r.label().unwrap()))
            .collect();
        assert_eq!(got, [(1, "1"), (3, "x")]);
        assert!(matches!(&reading.rows[1].content, Content::Labelled { text, .. } if text == "b"));
    }

    #[test]
    fn every_broken_line_is_named() {
        let good = "{\"text\":\"a\",\"label\":1}\n";
        for (line, told) in [
            (
                &b"{\"text\":\"a\"}"[..],
                "line 2: has no 'label'; each line must be an object like",
            ),
            (b"{\"text\":1,\"label\":1}", "line 2: 'text' must"),
            (b"{", "line 2: is not JSON (EOF"),
            (b"[1]", "line 2: is not an object"),
            (
                b"{\"text\":\"a\",\"label\":1.5}",
                "line 2: 'label' must be a string or an integer",
            ),
            (
                b"{\"text\":\"a\",\"label\":null}",
                "line 2: 'label' is null",
            ),
            (
                b"{\"text\":\"a\",\"label\":NaN}",
                "line 2: is not JSON: NaN (column 21) is no number",
            ),
            (
                b"{\"text\":\"a\",\"label\":1,\"text\":\"b\"}",
                "line 2: has twice the field 'text'",
            ),
            (b"{\"text\":\"\\ud83d\",\"label\":1}", "line 2: is not JSON"),
            (
                b"{\"text\":\"a\",\"label\":\"\"}",
                "line 2: 'label' is empty",
            ),
            (b"\xff\xfe", "line 2: is not UTF-8"),
            (b"{\"text\":\"\0\",\"label\":1}", "line 2: is not JSON"),
        ] {
            let reading = rows(&[good.as_bytes(), line, b"\n"].concat());
            let message = reading.problems.message().unwrap();
            assert!(message.starts_with(told), "{message}");
            assert_eq!(reading.rows.len(), 1);
        }
    }

    #[test]
    fn the_first_row_decides_the_kind_of_all() {
        let message = |text: &str| rows(text.as_bytes()).problems.message().unwrap();
        let mixed = message("{\"text\":\"a\"}\n{\"text\":\"b\",\"label\":1}\n");
        assert_eq!(
            mixed,
            "line 2: is a text with a label, but line 1 is a plain text; all rows must be of one kind"
        );
        let other = message("{\"text\":\"a\"}\n{\"prompt\":\"b\",\"completion\":\"c\"}\n");
        assert!(other.starts_with("line 2: has no 'text'"), "{other}");
        let unknown = message("{\"txt\":\"a\",\"label\":1}\n");
        assert!(
            unknown.starts_with("line 1: has no set of fields that taper reads; each row must"),
            "{unknown}"
        );
    }

    #[test]
    fn arrays_and_objects_on_several_lines_are_read_with_their_lines() {
        let lines = |text: &str| {
            let reading = rows(text.as_bytes());
            let lines: Vec<u64> = reading.rows.iter().map(|row| row.line).collect();
            (lines, reading.problems.message().unwrap_or_default())
        };
        let row = |text: &str| format!("{{\"text\": \"{text}\"}}");
        let all = [row("a"), row("b"), row("c")];
        assert_eq!(lines(&format!("[{}]", all.join(","))).0, [1, 1, 1]);
        let pretty = format!("\n[\n  {}\n]\n", all.join(",\n  "));
        assert_eq!(lines(&pretty), (vec![3, 4, 5], String::new()));
        let spread = "{\n \"text\": \"a\"\n}\n{\n \"text\": \"b\"\n}\n";
        assert_eq!(lines(spread), (vec![1, 4], String::new()));
        for (text, told) in [
            ("[\n{\"text\": \"a\"},\n3]", "line 3: is not an object"),
            (
                "[\n{\"text\": \"a\"},\n{\"text\": }]",
                "line 3: is not JSON",
            ),
            ("[\n{\"text\": \"a\"}", "line 2: the array"),
            ("[{\"text\": \"a\"}] x", "line 1: text stands behind"),
        ] {
            let message = lines(text).1;
            assert!(message.starts_with(told), "{text}: {message}");
        }
    }
}
