use super::Row;
use crate::random::Stream;

/// Holds `share` of every class out for validation, by seed; both parts keep the order of the file. Every class keeps a training
/// row; rows without classes are one group.
pub(crate) fn hold_out(rows: Vec<Row>, share: f64, seed: u64) -> (Vec<Row>, Vec<Row>) {
    let mut classes: Vec<&str> = rows.iter().map(class).collect();
    classes.sort_unstable();
    classes.dedup();
    let mut held = vec![false; rows.len()];
    for class in classes {
        let mut members: Vec<usize> = (0..rows.len())
            .filter(|i| self::class(&rows[*i]) == class)
            .collect();
        Stream::new(seed, &format!("hold out {class}")).shuffle(&mut members);
        let count = ((members.len() as f64 * share).round() as usize).min(members.len() - 1);
        for index in &members[..count] {
            held[*index] = true;
        }
    }
    let (validation, training): (Vec<_>, Vec<_>) =
        rows.into_iter().zip(held).partition(|(_, held)| *held);
    let strip = |part: Vec<(Row, bool)>| part.into_iter().map(|(row, _)| row).collect();
    (strip(training), strip(validation))
}

fn class(row: &Row) -> &str {
    row.label().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Content;

    #[test]
    fn each_class_gives_its_share() {
        let row = |i: u64| Row {
            line: i,
            content: Content::Labelled {
                text: String::new(),
                label: if i.is_multiple_of(5) { "rare" } else { "often" }.to_owned(),
            },
        };
        let (training, validation) = hold_out((0..100).map(row).collect(), 0.2, 1);
        let rare = |rows: &[Row]| rows.iter().filter(|r| class(r) == "rare").count();
        assert_eq!(
            (
                training.len(),
                rare(&training),
                validation.len(),
                rare(&validation)
            ),
            (80, 16, 20, 4)
        );
        let (_, again) = hold_out((0..100).map(row).collect(), 0.2, 1);
        assert_eq!(again, validation);
        assert_ne!(hold_out((0..100).map(row).collect(), 0.2, 2).1, validation);
    }

    #[test]
    fn rows_without_classes_are_one_group() {
        let row = |i: u64| Row {
            line: i,
            content: Content::Text(i.to_string()),
        };
        let (training, validation) = hold_out((0..10).map(row).collect(), 0.3, 1);
        assert_eq!((training.len(), validation.len()), (7, 3));
    }
}
