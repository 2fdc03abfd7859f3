//! Comparisons in which runs are missing, or do not weigh the same.

use std::collections::BTreeMap;

use super::{
    figures::{lose, scores},
    *,
};

/// Full tuning and LoRA with three seeds, of which the second is a hard one; the second run of LoRA has failed.
fn one_lost() -> (Experiment, Vec<Run>) {
    let (experiment, jobs) =
        settled(json!({"methods": [{"type": "full"}, {"type": "lora"}], "seeds": [1, 2, 3]}));
    let mut runs = runs(&experiment, &jobs, 90);
    for (run, value) in runs.iter_mut().zip([0.9, 0.5, 0.9, 0.88, 0.48, 0.88]) {
        train(run, value);
    }
    lose(&mut runs[4]);
    (experiment, runs)
}

fn compare(experiment: &Experiment, runs: &[Run]) -> Comparison {
    Comparison::of(experiment, runs, &BTreeMap::new())
}

fn recommendation(experiment: &Experiment, runs: &[Run]) -> String {
    compare(experiment, runs).recommendation.unwrap()
}

#[test]
fn a_configuration_that_has_lost_a_seed_is_compared_over_the_others() {
    let (experiment, runs) = one_lost();
    let comparison = compare(&experiment, &runs);
    // Over its own seeds alone LoRA would lie above the 0.77 of full tuning.
    assert_eq!(comparison.best, Some(0));
    let row = &comparison.table[1];
    assert_eq!((row.metric, &row.metric_seeds), (Some(0.88), &vec![1, 3]));
    assert!((row.difference.unwrap() + 0.02).abs() < 1e-12, "{row:?}");
    let note = "2 of 3 seeds; seed 2 failed: the loss is not finite | at step 3";
    assert_eq!(row.note.as_deref(), Some(note));
    assert_eq!(comparison.table[0].note, None);

    let markdown = comparison.to_markdown(&experiment);
    let told = "| LoRA r=8 (2 of 3 seeds; seed 2 failed: the loss is not finite \\| at step 3) | 88.0 % ± 0.0 % | -2.0 % | ";
    assert!(markdown.contains(told), "{markdown}");
    let csv = comparison.to_csv();
    assert!(csv.contains(",1 2 3,0.88,0,1 3,"), "{csv}");
    assert!(csv.ends_with(&format!(",{note}\n")), "{csv}");
    let sentence = comparison.recommendation.unwrap();
    let told =
        "next is LoRA r=8, 2.0 points below full, over the 2 of 3 seeds that both have, how sure";
    assert!(sentence.contains(told), "{sentence}");
}

#[test]
fn a_configuration_with_fewer_seeds_is_the_best_if_it_wins_on_them() {
    let (experiment, mut runs) = one_lost();
    runs[3].metrics.set("valid_accuracy", 0.95);
    let comparison = compare(&experiment, &runs);
    assert_eq!(comparison.best, Some(1));
    let difference = comparison.table[0].difference.unwrap();
    assert!((difference + 0.015).abs() < 1e-12, "{difference}");
}

#[test]
fn a_difference_and_its_interval_are_over_the_same_seeds() {
    let (experiment, runs) = one_lost();
    let mut known: BTreeMap<String, RowScores> = [900, 500, 900, 880, 480, 880]
        .into_iter()
        .zip(&runs)
        .map(|(correct, run)| (run.job.clone(), scores(1000, correct)))
        .collect();
    let pairs = Comparison::pairs(&experiment, &runs);
    let jobs = [["ftjob-3", "ftjob-0"], ["ftjob-5", "ftjob-2"]];
    assert_eq!(
        pairs,
        BTreeMap::from([(1, jobs.map(|it| it.map(str::to_owned)).to_vec())])
    );
    let [low, high] = Comparison::interval(&experiment, &pairs[&1], &known).unwrap();
    assert!(low < -0.02 && -0.02 < high && high < 0.0, "{low} {high}");
    // The difference is over two seeds, so an interval over one of them would be another's.
    known.remove("ftjob-5");
    assert_eq!(Comparison::interval(&experiment, &pairs[&1], &known), None);
}

#[test]
fn seeds_that_disagree_leave_nothing_sure() {
    let (experiment, mut runs) = one_lost();
    let told = |runs: &[Run]| {
        let intervals = BTreeMap::from([(1, [-0.03, -0.01])]);
        Comparison::of(&experiment, runs, &intervals)
            .recommendation
            .unwrap()
    };
    let alike = told(&runs);
    assert!(
        alike.contains(", more than the chance of these validation rows at 95 %"),
        "{alike}"
    );
    // Over both seeds it lies 0.02 below as before.
    runs[3].metrics.set("valid_accuracy", 0.91);
    runs[5].metrics.set("valid_accuracy", 0.85);
    let split = told(&runs);
    let sentence = "2.0 points below full, over the 2 of 3 seeds that both have, though the seeds disagree which is better";
    assert!(split.contains(sentence), "{split}");
}

#[test]
fn where_lost_runs_leave_no_best_it_is_said() {
    let (experiment, jobs) = settled(json!({"grid": {"tuning.r": [2, 4, 8]}, "seeds": [1, 2, 3]}));
    let mut runs = runs(&experiment, &jobs, 90);
    // 4 beats 2 on seed 1, 8 beats 4 on seed 3, and 2 beats 8 on seed 2.
    let values = [0.7, 0.9, 0.5, 0.8, 0.0, 0.6, 0.0, 0.8, 0.7];
    for (run, value) in runs.iter_mut().zip(values) {
        train(run, value);
    }
    for lost in [2, 4, 6] {
        lose(&mut runs[lost]);
    }
    let comparison = compare(&experiment, &runs);
    let best = comparison.best.unwrap();
    assert_eq!(best, 2);
    let sentence = comparison.recommendation.unwrap();
    let told = "LoRA r=8: valid_accuracy 75.0 %, but LoRA r=2 lies 10.0 points above LoRA r=8, over the 1 of 3 seeds that both have, ";
    assert!(sentence.starts_with(told), "{sentence}");
    let warning = &comparison.warnings[0];
    assert_eq!(
        (warning.code.as_str(), warning.configuration),
        ("no_clear_best", Some(0))
    );
    let told = "LoRA r=2 is better than LoRA r=8 over the seeds that both have";
    assert!(warning.message.starts_with(told), "{warning:?}");
}

#[test]
fn runs_that_were_deleted_are_missed() {
    let (experiment, runs) = one_lost();
    let row = |left: &[usize]| {
        let left: Vec<Run> = left.iter().map(|index| runs[*index].clone()).collect();
        let row = compare(&experiment, &left).table.remove(1);
        (row.status, row.note)
    };
    let note = |told: &str| Some(told.to_owned());
    let failed = "seed 2 failed: the loss is not finite | at step 3";
    for (left, status, told) in [
        (
            &[0, 3, 4][..],
            RowStatus::Succeeded,
            note(&format!(
                "1 of 3 seeds; {failed}; seed 3: its run was deleted"
            )),
        ),
        (
            &[0, 3, 5],
            RowStatus::Succeeded,
            note("2 of 3 seeds; seed 2: its run was deleted"),
        ),
        (
            &[0, 4],
            RowStatus::Failed,
            note(&format!(
                "0 of 3 seeds; seed 1: its run was deleted; {failed}; seed 3: its run was deleted"
            )),
        ),
        (&[0, 1, 2], RowStatus::Deleted, None),
    ] {
        assert_eq!(row(left), (status, told), "{left:?}");
    }
}

#[test]
fn what_has_no_figure_is_not_recommended_or_compared() {
    let (experiment, mut runs) = one_lost();
    for run in &mut runs[3..] {
        run.metrics = Metrics::new();
    }
    assert_eq!(
        recommendation(&experiment, &runs),
        "full: valid_accuracy 76.7 %; no other configuration ran to its end with that figure on the same seeds"
    );
    let (experiment, mut runs) = one_lost();
    runs[0].state = JobState::Cancelled;
    runs[2].state = JobState::Cancelled;
    let comparison = compare(&experiment, &runs);
    let note = "1 of 3 seeds; seed 1 cancelled; seed 3 cancelled";
    assert_eq!(comparison.table[0].note.as_deref(), Some(note));
    assert_eq!(
        (comparison.best, comparison.table[0].difference),
        (Some(1), None)
    );
}

#[test]
fn a_small_share_is_told_with_a_digit_that_says_something() {
    let (experiment, mut runs) = one_lost();
    for run in &mut runs {
        let parameters = [22_000_000, 5000][run.configuration];
        run.plan.as_mut().unwrap().trainable_parameters = parameters;
    }
    let sentence = recommendation(&experiment, &runs);
    assert!(
        sentence.ends_with(", 0.02 % of the parameters"),
        "{sentence}"
    );
}

#[test]
fn a_warning_of_one_run_says_which_one() {
    let (experiment, mut runs) = one_lost();
    runs[5].metrics.set(crate::OVERFITTING_FROM, 60.0);
    let warnings = compare(&experiment, &runs).warnings;
    let told = "LoRA r=8, seed 3: the validation loss has risen since step 60";
    assert!(warnings[0].message.starts_with(told), "{warnings:?}");
    let about = (warnings[0].configuration, warnings[0].job.as_deref());
    assert_eq!(about, (Some(1), Some("ftjob-5")));
}

#[test]
fn a_run_that_was_cut_by_time_says_so() {
    let warning = Budget::MaxMinutes(2.5).warning(40, 90).unwrap();
    assert_eq!(warning.code, WarningCode::CutByTime);
    let told = "ended by max_minutes at step 40 of 90, where by its plan's estimate 2.5 minutes";
    assert!(warning.message.starts_with(told), "{warning:?}");
    assert_eq!(Budget::MaxSteps(40).warning(40, 90), None);
    assert_eq!(Budget::MaxTokens(40).warning(40, 90), None);
}
