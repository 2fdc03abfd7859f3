use crate::evaluation::{Evaluation, Prediction, RowLoss};

/// What a model makes of each validation row, as [`taper_core::RunSpec::VALIDATION_ROWS`] describes it. The figures of the evaluation are
/// means over these rows, each row as often as it has answers; `classes` are the names of the classes.
pub(super) fn validation_rows(evaluation: &Evaluation, classes: &[String]) -> String {
    let mut table = csv::Writer::from_writer(Vec::new());
    let mut columns = vec!["row", "line", "loss", "label_tokens", "correct"];
    match evaluation {
        Evaluation::Classes { predictions, .. } => {
            columns.extend(["label", "prediction"]);
            write(&mut table, &columns);
            for (row, prediction) in predictions.iter().enumerate() {
                write(&mut table, &of_class(row, prediction, classes));
            }
        }
        Evaluation::Tokens(rows) => {
            write(&mut table, &columns);
            for (row, loss) in rows.iter().enumerate() {
                write(&mut table, &of_tokens(row, loss));
            }
        }
    }
    let bytes = table.into_inner().expect("a vector takes all bytes");
    String::from_utf8(bytes).expect("all cells are text")
}

fn write<T: AsRef<[u8]>>(table: &mut csv::Writer<Vec<u8>>, cells: &[T]) {
    table
        .write_record(cells)
        .expect("all rows of the table have as many cells");
}

fn of_class(row: usize, prediction: &Prediction, classes: &[String]) -> Vec<String> {
    let right = prediction.class() == prediction.label;
    vec![
        row.to_string(),
        prediction.line.to_string(),
        prediction.loss.to_string(),
        "1".to_owned(),
        u8::from(right).to_string(),
        classes[prediction.label].clone(),
        classes[prediction.class()].clone(),
    ]
}

fn of_tokens(row: usize, loss: &RowLoss) -> Vec<String> {
    vec![
        row.to_string(),
        loss.line.to_string(),
        loss.loss.to_string(),
        loss.tokens.to_string(),
        loss.correct.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_classes_may_hold_anything() {
        let evaluation = Evaluation::Classes {
            predictions: vec![Prediction {
                line: 7,
                label: 1,
                loss: 0.25,
                logits: vec![2.0, 1.0],
            }],
            classes: 2,
        };
        let classes = ["a,b", "c\"d"].map(str::to_owned);
        assert_eq!(
            validation_rows(&evaluation, &classes),
            "row,line,loss,label_tokens,correct,label,prediction\n0,7,0.25,1,0,\"c\"\"d\",\"a,b\"\n"
        );
    }

    #[test]
    fn rows_of_text_count_their_tokens() {
        let rows = vec![RowLoss {
            line: 3,
            loss: 1.5,
            tokens: 4,
            correct: 2,
        }];
        assert_eq!(
            validation_rows(&Evaluation::Tokens(rows), &[]),
            "row,line,loss,label_tokens,correct\n0,3,1.5,4,2\n"
        );
    }
}
