use crate::{evaluation::Evaluation, tasks::task};

/// What a model makes of each validation row, as [`taper_core::RunSpec::VALIDATION_ROWS`] describes it. The figures of the evaluation are
/// means over these rows, each row as often as it has targets; `classes` are the names of the classes.
pub(super) fn validation_rows(evaluation: &Evaluation, classes: &[String]) -> String {
    let task = task(evaluation.task);
    let mut table = csv::Writer::from_writer(Vec::new());
    let columns = ["row", "line", "loss", "label_tokens", "correct"];
    write(&mut table, columns.iter().chain(task.columns()));
    for (row, (line, score)) in evaluation.lines.iter().zip(&evaluation.scores).enumerate() {
        let cells = [
            row.to_string(),
            line.to_string(),
            score.loss.to_string(),
            score.targets.to_string(),
            score.correct.to_string(),
        ];
        write(
            &mut table,
            cells.into_iter().chain(task.cells(score, classes)),
        );
    }
    let bytes = table.into_inner().expect("a vector takes all bytes");
    String::from_utf8(bytes).expect("all cells are text")
}

fn write<T: AsRef<[u8]>>(table: &mut csv::Writer<Vec<u8>>, cells: impl Iterator<Item = T>) {
    table
        .write_record(cells)
        .expect("all rows of the table have as many cells");
}

#[cfg(test)]
mod tests {
    use taper_core::TaskType;

    use super::*;
    use crate::tasks::{ClassScore, Score};

    fn of_one(task: TaskType, line: u64, score: Score) -> Evaluation {
        Evaluation {
            task,
            scores: vec![score],
            lines: vec![line],
        }
    }

    #[test]
    fn names_of_classes_may_hold_anything() {
        let score = Score {
            loss: 0.25,
            targets: 1,
            correct: 0,
            class: Some(ClassScore {
                label: 1,
                logits: vec![2.0, 1.0],
            }),
        };
        let classes = ["a,b", "c\"d"].map(str::to_owned);
        assert_eq!(
            validation_rows(&of_one(TaskType::SeqCls, 7, score), &classes),
            "row,line,loss,label_tokens,correct,label,prediction\n0,7,0.25,1,0,\"c\"\"d\",\"a,b\"\n"
        );
    }

    #[test]
    fn rows_of_text_count_their_tokens() {
        let score = Score {
            loss: 1.5,
            targets: 4,
            correct: 2,
            class: None,
        };
        assert_eq!(
            validation_rows(&of_one(TaskType::CausalLm, 3, score), &[]),
            "row,line,loss,label_tokens,correct\n0,3,1.5,4,2\n"
        );
    }
}
