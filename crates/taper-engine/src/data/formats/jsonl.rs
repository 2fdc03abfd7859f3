use serde_json::{Map, Value};

use super::Reading;

pub(in crate::data) fn read(bytes: &[u8], reading: &mut Reading) {
    for (index, line) in bytes.split(|b| *b == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let number = index as u64 + 1;
        match object(line, reading.wanted()) {
            Ok(object) => reading.take(number, &object),
            Err(problem) => reading.problems.add(number, &problem),
        }
    }
}

fn object(line: &[u8], wanted: &str) -> Result<Map<String, Value>, String> {
    let line = std::str::from_utf8(line).map_err(|_| "is not UTF-8 text".to_owned())?;
    match serde_json::from_str(line) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(format!("is not an object; {wanted}")),
        Err(error) => Err(format!(
            "is not JSON ({}); {wanted}",
            without_position(&error)
        )),
    }
}

fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once(" at line ") {
        Some((what, _)) => format!("{what}, column {}", error.column()),
        None => text,
    }
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
            (b"{\"text\":\"a\",\"label\":1.5}", "line 2: 'label' must"),
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
}
