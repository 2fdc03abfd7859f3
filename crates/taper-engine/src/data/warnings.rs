//! What a look at the rows makes one wonder about, before anything is trained.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use taper_core::{Warning, WarningCode};
use unicode_normalization::UnicodeNormalization;

use super::{Classes, Content, MaxLength, Row};

/// A class with so many times the rows of another outweighs it.
const IMBALANCE: u64 = 4;
/// Plain texts are parts of a larger one; shorter than this many bytes the same one may well come twice.
const SHORTEST_TEXT: usize = 80;
/// Names that a message lists.
const SHOWN: usize = 3;

/// What is odd about labels and rows; `validation` is empty where there is none.
pub(crate) fn warnings(training: &[Row], validation: &[Row], classes: &Classes) -> Vec<Warning> {
    [
        similar(training, classes),
        imbalance(training, classes),
        unused(validation, classes),
        duplicates(training, validation),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What is to be said of rows that were cut.
pub(crate) fn truncated(cut: u64, rows: usize, max_length: MaxLength) -> Option<Warning> {
    let message = || {
        let (most, way) = if max_length.raisable {
            ("", "raise training.max_length")
        } else {
            (", the most that the model takes,", "shorten or split them")
        };
        format!(
            "{cut} of {rows} rows are longer than {} tokens{most} and are cut there; {way} if what matters may stand at their end",
            max_length.tokens
        )
    };
    (cut > 0).then(|| Warning::new(WarningCode::TruncatedRows, message()))
}

/// Classes that a person may have meant as one: their names differ by case, blanks, leading zeros or the Unicode form of their letters.
fn similar(training: &[Row], classes: &Classes) -> Option<Warning> {
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for name in classes.names() {
        groups.entry(likeness(name)).or_default().push(name);
    }
    groups.retain(|_, names| names.len() > 1);
    let mut lines = HashMap::new();
    for row in training {
        if let Some(label) = row.label() {
            lines.entry(label).or_insert(row.line);
        }
    }
    let told = |names: &Vec<&str>| {
        let form = |name: &&str| name.nfc().collect::<String>();
        let same_letters = names
            .iter()
            .any(|a| names.iter().any(|b| a != b && form(a) == form(b)));
        let named: Vec<_> = names
            .iter()
            .take(SHOWN)
            .map(|name| {
                let shown = if same_letters {
                    name.escape_default().to_string()
                } else {
                    (*name).to_owned()
                };
                format!("'{shown}' (line {})", lines.get(name).copied().unwrap_or(0))
            })
            .collect();
        named.join(" and ")
    };
    let found: Vec<_> = groups.values().take(SHOWN).map(told).collect();
    let message = || {
        format!(
            "labels that differ by case, blanks, leading zeros or the Unicode form of their letters alone are classes of their own: {}; write them alike where they mean the same",
            found.join("; ")
        )
    };
    (!found.is_empty()).then(|| Warning::new(WarningCode::SimilarLabels, message()))
}

/// What two ways to write one label have in common.
fn likeness(name: &str) -> String {
    // Letters without width, which nobody sees.
    let unseen = |c: &char| {
        !matches!(
            c,
            '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}'
        )
    };
    let folded: String = name
        .nfkc()
        .filter(unseen)
        .collect::<String>()
        .to_lowercase();
    let folded: String = folded.nfkc().filter(|c| !c.is_whitespace()).collect();
    let digits = folded.trim_start_matches('+').trim_start_matches('0');
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return digits.to_owned();
    }
    folded
}

fn imbalance(training: &[Row], classes: &Classes) -> Option<Warning> {
    let counts = counts(training);
    let most = classes
        .names()
        .iter()
        .max_by_key(|name| counts[name.as_str()])?;
    let least = classes
        .names()
        .iter()
        .min_by_key(|name| counts[name.as_str()])?;
    let (many, few) = (counts[most.as_str()], counts[least.as_str()]);
    let share = 100.0 * many as f64 / training.len() as f64;
    let message = || {
        format!(
            "{share:.0} % of the training rows have the label '{most}', only {few} of {} have '{least}': always saying '{most}' would be right as often; judge by valid_macro_f1, not by accuracy",
            training.len()
        )
    };
    (many >= IMBALANCE * few).then(|| Warning::new(WarningCode::LabelImbalance, message()))
}

fn unused(validation: &[Row], classes: &Classes) -> Option<Warning> {
    let counts = counts(validation);
    let names = classes.names().iter().map(String::as_str);
    let unused: Vec<&str> = names.filter(|name| !counts.contains_key(name)).collect();
    let message = || {
        format!(
            "no validation row has the label {}: how well it is told apart is not measured",
            listed(&unused)
        )
    };
    (!validation.is_empty() && !unused.is_empty())
        .then(|| Warning::new(WarningCode::UnusedClasses, message()))
}

fn duplicates(training: &[Row], validation: &[Row]) -> Option<Warning> {
    let mut lines = HashMap::new();
    for row in training {
        if let Some(text) = text(row) {
            lines.entry(text).or_insert(row.line);
        }
    }
    let twice: Vec<(u64, u64)> = validation
        .iter()
        .filter_map(|row| Some((row.line, *lines.get(&text(row)?)?)))
        .collect();
    let (line, same) = twice.first()?;
    let message = format!(
        "{} of {} validation rows are training rows too (the first is line {line}, the same as line {same} of the training rows): the figures flatter the model; take them out of one of the two",
        twice.len(),
        validation.len()
    );
    Some(Warning::new(WarningCode::DuplicateRows, message))
}

/// What makes two rows the same to a model, whatever their labels; `None` where it means nothing.
fn text(row: &Row) -> Option<Cow<'_, str>> {
    match &row.content {
        Content::Labelled { text, .. } => Some(text.trim().into()),
        Content::Completion { prompt, completion } => {
            Some(format!("{}\u{0}{}", prompt.trim(), completion.trim()).into())
        }
        Content::Chat { messages, .. } => {
            let messages: Vec<_> = messages.iter().map(|message| &message.fields).collect();
            serde_json::to_string(&messages).ok().map(Cow::from)
        }
        Content::Text(text) => Some(text.trim().into()).filter(|_| text.len() >= SHORTEST_TEXT),
    }
}

/// Rows by label.
fn counts(rows: &[Row]) -> BTreeMap<&str, u64> {
    let mut counts = BTreeMap::new();
    for label in rows.iter().filter_map(Row::label) {
        *counts.entry(label).or_default() += 1;
    }
    counts
}

fn listed(names: &[&str]) -> String {
    let shown: Vec<String> = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("'{name}'"))
        .collect();
    let rest = names.len().saturating_sub(SHOWN);
    match rest {
        0 => shown.join(", "),
        _ => format!("{} and {rest} others", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(rows: &[(&str, &str)]) -> Vec<Row> {
        let row = |(place, (text, label)): (usize, &(&str, &str))| Row {
            line: place as u64 + 1,
            content: Content::Labelled {
                text: (*text).to_owned(),
                label: (*label).to_owned(),
            },
        };
        rows.iter().enumerate().map(row).collect()
    }

    fn codes(training: &[Row], validation: &[Row]) -> Vec<WarningCode> {
        let classes = Classes::of(training).unwrap();
        let found = warnings(training, validation, &classes);
        found.iter().map(|warning| warning.code).collect()
    }

    #[test]
    fn sound_rows_give_no_warning() {
        let training = labelled(&[("a", "x"), ("b", "y"), ("c", "x"), ("d", "x")]);
        assert_eq!(codes(&training, &labelled(&[("e", "x"), ("f", "y")])), []);
        assert_eq!(codes(&training, &[]), []);
    }

    #[test]
    fn each_oddity_of_labels_has_its_warning() {
        let lopsided = labelled(&[("a", "x"), ("b", "y"), ("c", "x"), ("d", "x"), ("e", "x")]);
        assert_eq!(codes(&lopsided, &[]), [WarningCode::LabelImbalance]);
        let training = labelled(&[("a", "x"), ("b", "y")]);
        assert_eq!(
            codes(&training, &labelled(&[("e", "x")])),
            [WarningCode::UnusedClasses]
        );
    }

    #[test]
    fn labels_that_look_alike_are_named_with_their_lines() {
        let told = |names: &[&str]| {
            let rows: Vec<_> = names.iter().map(|name| ("text", *name)).collect();
            let rows = labelled(&rows);
            let found = warnings(&rows, &[], &Classes::of(&rows).unwrap());
            let mut similar = found
                .into_iter()
                .filter(|w| w.code == WarningCode::SimilarLabels);
            similar.next().map(|warning| warning.message)
        };
        let message = told(&["Spam", "ham", "spam", "ham"]).unwrap();
        assert!(
            message.contains("'Spam' (line 1) and 'spam' (line 3)"),
            "{message}"
        );
        let message = told(&["caf\u{e9}", "cafe\u{301}"]).unwrap();
        assert!(
            message.contains("'caf\\u{e9}' (line 1) and 'cafe\\u{301}' (line 2)")
                || message.contains("'cafe\\u{301}' (line 2) and 'caf\\u{e9}' (line 1)"),
            "{message}"
        );
        for pair in [
            ["a b", "a  b"],
            ["01", "1"],
            ["a\u{200b}", "a"],
            ["\u{ff11}", "1"],
        ] {
            assert!(told(&pair).is_some(), "{pair:?}");
        }
        for pair in [["a", "b"], ["10", "1"], ["00", "1"], ["na", "n/a"]] {
            assert_eq!(told(&pair), None, "{pair:?}");
        }
    }

    #[test]
    fn the_same_text_is_the_same_row_under_any_label() {
        let training = labelled(&[("a", "x"), ("b ", "y")]);
        let validation = labelled(&[("c", "x"), ("b", "x"), ("d", "y")]);
        let classes = Classes::of(&training).unwrap();
        let found = warnings(&training, &validation, &classes);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].code, WarningCode::DuplicateRows);
        let message = &found[0].message;
        assert!(
            message.starts_with("1 of 3") && message.contains("line 2, the same as line 2"),
            "{message}"
        );
    }

    #[test]
    fn short_pieces_of_a_text_may_come_twice() {
        let row = |text: String| Row {
            line: 1,
            content: Content::Text(text),
        };
        let codes = |text: &str| {
            let rows = [row(text.to_owned())];
            warnings(&rows, &rows, &Classes::none()).len()
        };
        assert_eq!((codes("Exeunt."), codes(&"to be ".repeat(20))), (0, 1));
    }

    #[test]
    fn only_cut_rows_are_told() {
        let told = |cut, raisable| {
            let tokens = 128;
            truncated(cut, 9, MaxLength { tokens, raisable }).map(|warning| warning.message)
        };
        assert_eq!(told(0, true), None);
        let message = told(2, true).unwrap();
        assert!(
            message.starts_with("2 of 9 rows are longer than 128 tokens and are cut"),
            "{message}"
        );
        let message = told(2, false).unwrap();
        assert!(!message.contains("raise"), "{message}");
    }
}
