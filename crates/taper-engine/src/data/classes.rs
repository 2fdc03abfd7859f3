use std::collections::BTreeMap;

use taper_core::{FieldError, code};

use super::{Part, Row};
use crate::Result;

/// More classes than this are a column of something else.
const MOST: usize = 1000;

/// The class names of a job in the order of their ids; none where the rows are not for classification.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Classes(Vec<String>);

impl Classes {
    /// The classes of the training rows: sorted as numbers when all of them are integers, else by code point.
    ///
    /// # Errors
    /// When all rows have the same label.
    pub(crate) fn of(rows: &[Row]) -> Result<Self> {
        let mut names: Vec<&str> = rows.iter().filter_map(Row::label).collect();
        names.sort_unstable();
        names.dedup();
        if names.len() > MOST {
            let message = format!(
                "has {} different labels, but a classifier takes at most {MOST}; is 'label' the right column?",
                names.len()
            );
            return Err(Part::Training.refuse(message).into());
        }
        if let [only] = names[..] {
            let message = format!(
                "every row has the label '{only}'; a classifier needs at least two classes"
            );
            return Err(
                FieldError::new("training_file", code::INVALID_TRAINING_FILE, message).into(),
            );
        }
        let numbers: Option<Vec<i64>> = names.iter().map(|name| name.parse().ok()).collect();
        if let Some(numbers) = numbers {
            let mut pairs: Vec<_> = numbers.into_iter().zip(names).collect();
            pairs.sort_unstable();
            names = pairs.into_iter().map(|(_, name)| name).collect();
        }
        Ok(Self(names.into_iter().map(str::to_owned).collect()))
    }

    /// Those of a task without classes.
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Names by id, as `config.json` has them.
    pub(crate) fn by_id(&self) -> BTreeMap<String, String> {
        let names = self.0.iter().enumerate();
        names
            .map(|(id, name)| (id.to_string(), name.clone()))
            .collect()
    }

    /// Ids by name.
    pub(crate) fn by_name(&self) -> BTreeMap<String, usize> {
        let names = self.0.iter().enumerate();
        names.map(|(id, name)| (name.clone(), id)).collect()
    }

    /// The class ids of rows.
    ///
    /// # Errors
    /// A row without label, or with one that the training data do not have, with its line.
    pub(crate) fn ids(&self, rows: &[Row], part: Part) -> Result<Vec<u32>> {
        let id = |row: &Row| {
            let label = row.label().ok_or_else(|| {
                part.refuse(format!(
                    "line {}: has no label, but the training data are for classification",
                    row.line
                ))
            })?;
            let place = self.0.iter().position(|name| name == label);
            place.map(|id| id as u32).ok_or_else(|| {
                let message = format!(
                    "line {}: the label '{label}' does not occur in the training data",
                    row.line
                );
                part.refuse(message).into()
            })
        };
        rows.iter().map(id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Content;

    fn rows(labels: &[&str]) -> Vec<Row> {
        labels
            .iter()
            .enumerate()
            .map(|(i, l)| Row {
                line: i as u64 + 1,
                content: Content::Labelled {
                    text: String::new(),
                    label: (*l).to_owned(),
                },
            })
            .collect()
    }

    #[test]
    fn integers_sort_as_numbers_and_words_by_code_point() {
        assert_eq!(
            Classes::of(&rows(&["10", "9", "10", "-1"]))
                .unwrap()
                .names(),
            ["-1", "9", "10"]
        );
        assert_eq!(
            Classes::of(&rows(&["b", "10", "9"])).unwrap().names(),
            ["10", "9", "b"]
        );
        assert!(Classes::of(&rows(&["x", "x"])).is_err());
    }

    #[test]
    fn a_column_of_something_else_is_no_label() {
        let labels: Vec<String> = (0..=MOST).map(|i| format!("title {i}")).collect();
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let error = Classes::of(&rows(&labels)).unwrap_err().to_string();
        assert!(error.contains("1001 different labels"), "{error}");
    }

    #[test]
    fn an_unknown_validation_label_is_named_with_its_line() {
        let classes = Classes::of(&rows(&["a", "b"])).unwrap();
        assert_eq!(
            classes.ids(&rows(&["b", "a"]), Part::Training).unwrap(),
            [1, 0]
        );
        let error = classes
            .ids(&rows(&["a", "c"]), Part::Validation)
            .unwrap_err()
            .to_string();
        assert!(error.contains("line 2") && error.contains("'c'"), "{error}");
    }

    #[test]
    fn rows_without_labels_have_no_classes() {
        let text = [Row {
            line: 3,
            content: Content::Text(String::new()),
        }];
        assert_eq!(Classes::of(&text).unwrap().len(), 0);
        let error = Classes::of(&rows(&["a", "b"]))
            .unwrap()
            .ids(&text, Part::Validation)
            .unwrap_err()
            .to_string();
        assert!(error.contains("line 3: has no label"), "{error}");
    }
}
