use super::*;

fn grid_of_twelve() -> (Experiment, Vec<Run>) {
    let (experiment, jobs) = settled(json!({
        "grid": {"training.learning_rate": [1e-4, 3e-4, 1e-3, 3e-3], "tuning.r": [2, 4, 8]},
        "strategy": {"type": "asha", "reduction": 3},
    }));
    let runs = runs(&experiment, &jobs, 90);
    (experiment, runs)
}

/// Follows what is decided, as the store does.
fn follow(runs: &mut [Run], moves: &[Move]) {
    for it in moves {
        let run = runs.iter_mut().find(|run| run.job == it.job).unwrap();
        (run.state, run.reason) = match it.next {
            Next::Promote { pause_at_step } => {
                run.pause_at_step = pause_at_step;
                (JobState::Queued, None)
            }
            Next::Stop => (JobState::Cancelled, Some(Reason::StoppedEarly)),
        };
    }
}

fn promoted(moves: &[Move]) -> Vec<&str> {
    let goes_on = |it: &&Move| matches!(it.next, Next::Promote { .. });
    moves
        .iter()
        .filter(goes_on)
        .map(|it| it.job.as_str())
        .collect()
}

#[test]
fn the_best_third_goes_on_from_each_rung() {
    let (experiment, mut runs) = grid_of_twelve();
    let values = [
        0.5,
        0.9,
        0.6,
        0.7,
        0.7,
        0.7,
        0.95,
        0.4,
        0.3,
        f64::NAN,
        0.2,
        0.1,
    ];
    let mut told = Vec::new();
    for _ in 0..3 {
        for (run, value) in runs.iter_mut().zip(values) {
            if run.state == JobState::Queued {
                assert_eq!(decide(&experiment, std::slice::from_ref(run)), []);
                train(run, value);
            }
        }
        let moves = decide(&experiment, &runs);
        told.push(promoted(&moves).join(" "));
        follow(&mut runs, &moves);
    }
    // Of three equals the first one goes on.
    assert_eq!(
        told,
        ["ftjob-1 ftjob-3 ftjob-4 ftjob-6", "ftjob-1 ftjob-6", ""]
    );
    let steps: Vec<u64> = runs.iter().map(Run::steps).collect();
    assert_eq!(steps, [10, 90, 10, 30, 30, 10, 90, 10, 10, 10, 10, 10]);
    let share = steps.iter().sum::<u64>() as f64 / (12.0 * 90.0);
    assert!(share < 0.45, "{share}");
    let ends = |state| runs.iter().filter(|run| run.state == state).count();
    assert_eq!(
        (ends(JobState::Succeeded), ends(JobState::Cancelled)),
        (2, 10)
    );
    assert_eq!(overall(runs.iter(), false), JobState::Succeeded);
}

#[test]
fn nothing_is_decided_before_all_have_come() {
    let (experiment, mut runs) = grid_of_twelve();
    for state in [
        JobState::Queued,
        JobState::Running,
        JobState::ValidatingFiles,
        JobState::Paused,
    ] {
        runs.iter_mut().for_each(|run| train(run, 0.5));
        (runs[4].state, runs[4].reason) = (state, None);
        assert_eq!(decide(&experiment, &runs), [], "{state}");
    }
    // One that has ended otherwise is not waited for.
    for state in [JobState::Failed, JobState::Cancelled] {
        runs[4].state = state;
        let moves = decide(&experiment, &runs);
        assert_eq!(promoted(&moves).len(), 4, "{state}");
        assert_eq!(moves.len(), 11);
    }
}

/// A large batch makes few steps: such a run has no rung to wait at, and has not been let on from one.
#[test]
fn one_too_short_for_the_rung_decides_nothing() {
    let (experiment, mut runs) = grid_of_twelve();
    runs.iter_mut().for_each(|run| train(run, 0.5));
    runs[0].plan.as_mut().unwrap().total_steps = 1;
    (runs[0].pause_at_step, runs[0].state, runs[0].reason) = (None, JobState::Succeeded, None);
    let moves = decide(&experiment, &runs);
    assert_eq!((promoted(&moves).len(), moves.len()), (4, 11));
}

#[test]
fn one_that_is_late_is_stopped() {
    let (experiment, mut runs) = grid_of_twelve();
    runs.iter_mut().for_each(|run| train(run, 0.5));
    runs[11].state = JobState::Failed;
    let moves = decide(&experiment, &runs);
    follow(&mut runs, &moves);
    // It was tried again while the others trained on.
    train(&mut runs[11], 0.99);
    let moves = decide(&experiment, &runs);
    assert_eq!(moves.len(), 1);
    assert_eq!(
        (moves[0].job.as_str(), moves[0].next),
        ("ftjob-11", Next::Stop)
    );
}

#[test]
fn seeds_of_a_configuration_go_on_together() {
    let (experiment, jobs) = settled(json!({
        "grid": {"tuning.r": [2, 4, 8]}, "seeds": [1, 2], "strategy": "asha",
    }));
    let mut runs = runs(&experiment, &jobs, 90);
    let values = [0.9, 0.1, 0.6, 0.6, 0.7, 0.2];
    runs.iter_mut()
        .zip(values)
        .for_each(|(run, value)| train(run, value));
    let moves = decide(&experiment, &runs);
    assert_eq!(promoted(&moves), ["ftjob-2", "ftjob-3"]);
    assert_eq!(
        moves[0].message,
        "The run was stopped early: place 2 of 3 by valid_accuracy at step 30, and 1 go on"
    );
    assert_eq!(
        moves[2].message,
        "The run goes on: place 1 of 3 by valid_accuracy at step 30"
    );
}

/// Two of three configurations go on that have come to the rung with these figures, by seed; `None` = the run has failed.
fn going_on(figures: [[Option<f64>; 2]; 4]) -> Vec<usize> {
    let (experiment, jobs) = settled(json!({
        "grid": {"tuning.r": [2, 4, 8, 16]}, "seeds": [1, 2], "strategy": {"type": "asha", "reduction": 2},
    }));
    let mut runs = runs(&experiment, &jobs, 90);
    for (run, figure) in runs.iter_mut().zip(figures.into_iter().flatten()) {
        train(run, figure.unwrap_or(0.0));
        if figure.is_none() {
            (run.state, run.reason) = (JobState::Failed, None);
        }
    }
    let moves = decide(&experiment, &runs);
    let promoted = promoted(&moves);
    let run = runs
        .iter()
        .filter(|run| promoted.contains(&run.job.as_str()));
    let mut configurations: Vec<_> = run.map(|run| run.configuration).collect();
    configurations.dedup();
    configurations
}

#[test]
fn a_lost_seed_is_no_advantage_at_a_rung() {
    // Over its one seed the second has a better mean than the first, which is better on that seed.
    let figures = [
        [Some(0.9), Some(0.5)],
        [Some(0.88), None],
        [Some(0.86), Some(0.9)],
        [Some(0.1), Some(0.1)],
    ];
    assert_eq!(going_on(figures), [0, 1]);
    // No seed is left to all: whoever has both comes first.
    let figures = [
        [Some(0.9), None],
        [None, Some(0.9)],
        [Some(0.5), Some(0.5)],
        [Some(0.4), Some(0.4)],
    ];
    assert_eq!(going_on(figures), [2, 3]);
    // One that was never measured takes no seed from the others.
    let figures = [
        [Some(0.5), Some(0.5)],
        [Some(f64::NAN), Some(f64::NAN)],
        [Some(0.6), None],
        [Some(0.4), Some(0.4)],
    ];
    assert_eq!(going_on(figures), [0, 2]);
}

#[test]
fn every_rung_lies_above_the_one_before() {
    let (experiment, _) = grid_of_twelve();
    let rungs = asha::Rungs::of(&experiment).unwrap();
    let steps = |total| [0, 1, 2].map(|rung| rungs.step(rung, total));
    assert_eq!(steps(90), [Some(10), Some(30), None]);
    assert_eq!(steps(100), [Some(12), Some(34), None]);
    assert_eq!(steps(3), [Some(1), Some(2), None]);
    assert_eq!(steps(2), [Some(1), None, None]);
    assert_eq!(steps(1), [None, None, None]);
}

#[test]
fn progress_counts_on_what_will_be_stopped() {
    let (experiment, mut runs) = grid_of_twelve();
    let progress = ExperimentProgress::of(&experiment, &runs);
    // 12 to step 10, 4 of them to step 30, 2 to the end.
    let expected = 12 * 10 + 4 * 20 + 2 * 60;
    assert_eq!((progress.runs, progress.ended, progress.steps), (12, 0, 0));
    assert_eq!(progress.total_steps, expected);
    assert_eq!(seconds_left(&experiment, &runs, 2), None);
    train(&mut runs[0], 0.5);
    runs[0].metrics.set("train_seconds", 5.0);
    let left = seconds_left(&experiment, &runs, 2).unwrap();
    assert_eq!(left, (expected - 10) as f64 * 0.5 / 2.0);
    runs.iter_mut()
        .for_each(|run| run.state = JobState::Cancelled);
    let progress = ExperimentProgress::of(&experiment, &runs);
    assert_eq!((progress.ended, progress.total_steps), (12, 10));
    assert_eq!(seconds_left(&experiment, &runs, 2), None);
}

#[test]
fn the_state_of_several_runs() {
    use JobState::{Cancelled, Failed, Paused, Queued, Running, Succeeded, ValidatingFiles};
    let (_, mut runs) = grid_of_twelve();
    let mut state = |states: &[JobState], held| {
        for (run, state) in runs.iter_mut().zip(states) {
            run.state = *state;
            run.has_started = matches!(state, Running | Succeeded | Failed);
        }
        overall(runs[..states.len()].iter(), held)
    };
    for (states, held, whole) in [
        (
            &[ValidatingFiles, ValidatingFiles][..],
            false,
            ValidatingFiles,
        ),
        (&[Queued, ValidatingFiles], false, Queued),
        (&[Running, Paused], false, Running),
        (&[Succeeded, Queued], false, Running),
        (&[Succeeded, Paused], false, Paused),
        (&[Succeeded, Failed, Cancelled], true, Succeeded),
        (&[Failed, Cancelled], false, Failed),
        (&[Cancelled, Cancelled], false, Cancelled),
    ] {
        assert_eq!(state(states, held), whole, "{states:?}");
    }
    let (_, mut runs) = grid_of_twelve();
    runs.iter_mut().for_each(|run| train(run, 0.5));
    assert_eq!(overall(runs.iter(), false), Running);
    assert_eq!(overall(runs.iter(), true), Paused);
}
