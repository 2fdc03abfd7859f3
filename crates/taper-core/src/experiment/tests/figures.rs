use std::collections::BTreeMap;

use super::*;

/// A table in which the first `correct` of `rows` rows are right.
pub(super) fn scores(rows: usize, correct: usize) -> RowScores {
    let mut text = "row,line,loss,label_tokens,correct,label,prediction\n".to_owned();
    for row in 0..rows {
        let right = row < correct;
        let (loss, prediction) = if right { (0.1, "a, b") } else { (2.0, "c") };
        text.push_str(&format!(
            "{row},{},{loss},1,{},\"a, b\",\"{prediction}\"\n",
            row + 1,
            u8::from(right)
        ));
    }
    RowScores::read(text.as_bytes()).unwrap()
}

fn interval(metric: &str, best: &[&RowScores], other: &[&RowScores]) -> Option<[f64; 2]> {
    bootstrap::interval(metric, best, other)
}

#[test]
fn an_interval_is_that_of_the_binomial() {
    let (best, other) = (scores(1000, 900), scores(1000, 870));
    let [low, high] = interval("valid_accuracy", &[&best], &[&other]).unwrap();
    // 30 of 1000 rows differ, all to one side: 0.03 and a deviation of sqrt(0.03 * 0.97 / 1000).
    let deviation = (0.03_f64 * 0.97 / 1000.0).sqrt();
    assert!((low - (-0.03 - 1.96 * deviation)).abs() < 0.002, "{low}");
    assert!((high - (-0.03 + 1.96 * deviation)).abs() < 0.002, "{high}");
    let again = interval("valid_accuracy", &[&best], &[&other]);
    assert_eq!(again, Some([low, high]));
    assert_eq!(
        interval("valid_accuracy", &[&best], &[&best]),
        Some([0.0, 0.0])
    );
}

#[test]
fn every_figure_of_rows_has_an_interval() {
    let (best, other) = (scores(500, 450), scores(500, 350));
    for (metric, sign) in [
        ("valid_accuracy", -1.0),
        ("valid_mean_token_accuracy", -1.0),
        ("valid_macro_f1", -1.0),
        ("valid_loss", 1.0),
        ("valid_perplexity", 1.0),
    ] {
        let [low, high] = interval(metric, &[&best], &[&other]).unwrap();
        assert!(
            low < high && sign * low > 0.0 && sign * high > 0.0,
            "{metric}: {low} {high}"
        );
    }
    assert_eq!(interval("train_loss", &[&best], &[&other]), None);
}

#[test]
fn more_seeds_and_other_rows() {
    let (best, other) = (scores(400, 300), scores(400, 280));
    let wide = interval("valid_accuracy", &[&best], &[&other]).unwrap();
    // The second seed says the contrary.
    let level = interval("valid_accuracy", &[&best, &other], &[&other, &best]).unwrap();
    assert_eq!(level, [0.0, 0.0]);
    assert!(wide[1] < 0.0);
    assert_eq!(
        interval("valid_accuracy", &[&best], &[&scores(399, 280)]),
        None
    );
    assert_eq!(interval("valid_accuracy", &[&best], &[]), None);
    assert!(RowScores::read("row,loss\n1,x\n".as_bytes()).is_err());
}

/// Four methods, three seeds, all ended but one run.
fn ended() -> (Experiment, Vec<Run>) {
    let (experiment, jobs) = settled(json!({"methods": "all", "seeds": [1, 2, 3]}));
    let mut runs = runs(&experiment, &jobs, 90);
    let values = [
        0.81, 0.80, 0.79, 0.75, 0.75, 0.75, 0.79, 0.80, 0.795, 0.6, 0.6, 0.6,
    ];
    for (run, value) in runs.iter_mut().zip(values) {
        train(run, value);
        let configuration = run.configuration;
        run.metrics
            .set("train_seconds", [100.0, 90.0, 34.0, 30.0][configuration]);
        run.metrics.set("trained_tokens", 3400.0);
        run.metrics
            .set("adapter_bytes", [9e7, 9e7, 3e5, 2e4][configuration]);
        let plan = run.plan.as_mut().unwrap();
        plan.trainable_parameters = [22_000_000, 22_000_000, 66_000, 5000][configuration];
    }
    lose(&mut runs[4]);
    (experiment, runs)
}

/// Lets a run fail.
pub(super) fn lose(run: &mut Run) {
    run.state = JobState::Failed;
    let message = "the loss is not finite | at step 3";
    run.error = Some(JobError::new(ErrorCode::NonFinite, message).at_step(3));
}

fn intervals() -> BTreeMap<usize, [f64; 2]> {
    BTreeMap::from([(1, [-0.07, -0.03]), (2, [-0.02, 0.01]), (3, [-0.25, -0.15])])
}

#[test]
fn an_exact_tie_is_called_so() {
    let (experiment, mut runs) = ended();
    for (run, value) in runs[6..9].iter_mut().zip([0.81, 0.80, 0.79]) {
        train(run, value);
    }
    let sentence = Comparison::of(&experiment, &runs, &intervals())
        .recommendation
        .unwrap();
    assert!(
        sentence.starts_with("LoRA r=8: level with full, not"),
        "{sentence}"
    );
}

#[test]
fn the_cheapest_that_is_level_with_the_best_is_recommended() {
    let (experiment, runs) = ended();
    let comparison = Comparison::of(&experiment, &runs, &intervals());
    assert_eq!(comparison.best, Some(0));
    assert_eq!(
        comparison.recommendation.as_deref(),
        Some(
            "LoRA r=8: 0.5 points below full, not distinguishable at 95 % on these validation rows, 0.3 % of the parameters, 34 % of the time"
        )
    );
    let row = &comparison.table[0];
    assert!((row.metric.unwrap() - 0.8).abs() < 1e-12);
    assert_eq!((row.difference, row.difference_ci95), (Some(0.0), None));
    assert!((row.metric_std.unwrap() - 0.01).abs() < 1e-12);
    let failed = &comparison.table[1];
    assert_eq!(
        (failed.status, failed.error.as_ref().map(|it| it.step)),
        (RowStatus::Succeeded, Some(Some(3)))
    );
    assert_eq!((failed.metric, failed.metric_std), (Some(0.75), Some(0.0)));
    let lora = &comparison.table[2];
    assert_eq!(
        (lora.tokens_per_second, lora.adapter_bytes),
        (Some(100.0), Some(300_000))
    );
    assert_eq!(comparison.warnings, []);
}

#[test]
fn a_best_that_nothing_comes_up_to_is_recommended_itself() {
    let (experiment, runs) = ended();
    let all_worse = BTreeMap::from([
        (1, [-0.07, -0.03]),
        (2, [-0.02, -0.001]),
        (3, [-0.25, -0.15]),
    ]);
    let comparison = Comparison::of(&experiment, &runs, &all_worse);
    assert_eq!(
        comparison.recommendation.as_deref(),
        Some(
            "full: the best valid_accuracy (80.0 %), next is LoRA r=8, 0.5 points below full, though the seeds disagree which is better, 0.3 % of the parameters, 34 % of the time"
        )
    );
}

#[test]
fn a_table_while_it_runs_and_after_all_has_failed() {
    let (experiment, mut runs) = ended();
    runs[11].state = JobState::Running;
    let comparison = Comparison::of(&experiment, &runs, &BTreeMap::new());
    assert_eq!(
        (comparison.best, &comparison.recommendation),
        (Some(0), &None)
    );
    assert_eq!(comparison.table[3].status, RowStatus::Running);
    runs.iter_mut().for_each(|run| run.state = JobState::Failed);
    let comparison = Comparison::of(&experiment, &runs, &BTreeMap::new());
    assert_eq!((comparison.best, &comparison.recommendation), (None, &None));
    assert!(
        comparison
            .table
            .iter()
            .all(|row| row.status == RowStatus::Failed && row.difference.is_none())
    );
}

#[test]
fn warnings_say_what_the_comparison_lacks() {
    let (experiment, jobs) =
        settled(json!({"grid": {"training.learning_rate": [1e-4, 3e-4, 1e-3]}}));
    let mut runs = runs(&experiment, &jobs, 90);
    let data = crate::Warning::new(crate::WarningCode::DuplicateRows, "3 rows");
    for (run, value) in runs.iter_mut().zip([0.5, 0.6, 0.7]) {
        train(run, value);
        run.plan.as_mut().unwrap().warnings.push(data.clone());
    }
    runs[2].metrics.set(crate::OVERFITTING_FROM, 60.0);
    let warnings = Comparison::of(&experiment, &runs, &BTreeMap::new()).warnings;
    let told: Vec<_> = warnings
        .iter()
        .map(|it| (it.code.as_str(), it.configuration))
        .collect();
    assert_eq!(
        told,
        [
            ("one_seed", None),
            ("edge_of_range", Some(2)),
            ("duplicate_rows", None),
            ("overfitting", Some(2))
        ]
    );
    assert!(
        warnings[1]
            .message
            .contains("0.001, is the largest that was tried for lora"),
        "{warnings:?}"
    );
}

#[test]
fn the_table_as_text() {
    let (experiment, mut runs) = ended();
    for run in &mut runs[9..] {
        (run.state, run.reason) = (JobState::Cancelled, Some(Reason::StoppedEarly));
        run.metrics.set("step", 10.0);
    }
    let comparison = Comparison::of(&experiment, &runs, &intervals());
    let csv = comparison.to_csv();
    let lines: Vec<_> = csv.lines().collect();
    assert!(lines[0].starts_with("configuration,label,status,jobs,seeds,metric,"));
    assert!(
        lines[3].starts_with("2,LoRA r=8,succeeded,ftjob-6 ftjob-7 ftjob-8,1 2 3,0.79"),
        "{}",
        lines[3]
    );
    assert!(lines[4].contains(",stopped_early,"), "{}", lines[4]);
    let markdown = comparison.to_markdown(&experiment);
    let lines: Vec<_> = markdown.lines().collect();
    assert_eq!(
        lines[4],
        "| LoRA r=8 | 79.5 % ± 0.5 % | -0.5 % | -2.0 % to 1.0 % | 66000 | 34.0 s | 100 |  | 293 KiB |"
    );
    assert!(
        lines[5].starts_with("| prompt tuning of 10 tokens (stopped early at step 10) | 60.0 % "),
        "{}",
        lines[5]
    );
    assert!(
        lines
            .iter()
            .all(|line| !line.starts_with('|') || line.matches(" | ").count() >= 8)
    );
    assert_eq!(lines.last().copied(), comparison.recommendation.as_deref());
}
