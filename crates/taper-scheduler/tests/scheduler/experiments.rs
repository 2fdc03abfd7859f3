//! Experiments as a whole: what the comparison is made from, and what users do to all runs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, atomic::AtomicBool, atomic::Ordering, mpsc},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use taper_core::{
    ExperimentRequest, JobState, Metrics, Outcome, Plan, Project, Reason, RunSpec, Stop,
    TrainError, Wish,
};
use taper_scheduler::ExperimentView;
use taper_store::{Job, Once, Scope};
use tokio::time::timeout;

use crate::bench::{Bench, Script, done, plan, spec, until_stopped};

impl Bench {
    /// Makes an experiment of full tuning and LoRA with more fields.
    async fn compare(&self, more: Value) -> ExperimentView {
        let file = spec(&self.store).await.training_file;
        let mut body = json!({"model": "base", "training_file": file, "validation_file": file,
            "methods": [{"type": "full"}, {"type": "lora"}]});
        let more = more.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(more);
        let request = ExperimentRequest::parse(&body).unwrap();
        let once = Once {
            scope: "experiments".to_owned(),
            key: None,
            digest: String::new(),
            retried: false,
        };
        let made = self
            .scheduler
            .submit_experiment(Project::default(), request, once);
        made.await.unwrap()
    }

    async fn look(&self, experiment: &ExperimentView) -> ExperimentView {
        let found = self
            .scheduler
            .experiment(&Scope::All, &experiment.record.id);
        found.await.unwrap()
    }

    async fn pause(&self, experiment: &ExperimentView) -> ExperimentView {
        let id = &experiment.record.id;
        let paused = self.scheduler.pause_experiment(&Scope::All, id);
        paused.await.unwrap()
    }

    async fn resume(&self, experiment: &ExperimentView) -> ExperimentView {
        let id = &experiment.record.id;
        let resumed = self.scheduler.resume_experiment(&Scope::All, id);
        resumed.await.unwrap()
    }

    /// Waits until all runs have ended well.
    async fn end(&self, experiment: &ExperimentView) -> ExperimentView {
        for job in &experiment.jobs {
            self.wait(job, JobState::Succeeded).await;
        }
        self.look(experiment).await
    }

    fn table_of(&self, job: &Job) -> PathBuf {
        let output = self.store.run_dir(&job.id).join("output");
        output.join(RunSpec::VALIDATION_ROWS)
    }
}

/// Leaves what an evaluation leaves: full tuning is right in 80 of 100 rows, LoRA in 60.
fn measured(run: &RunSpec) -> Result<Outcome, TrainError> {
    let accuracy = match run.spec.tuning.method.name() {
        "full" => 0.8,
        _ => 0.6,
    };
    let mut rows = "row,line,loss,label_tokens,correct\n".to_owned();
    for row in 0..100 {
        let correct = u8::from(f64::from(row) < 100.0 * accuracy);
        rows += &format!("{row},{},0.5,1,{correct}\n", row + 1);
    }
    fs::create_dir_all(run.output_dir()).unwrap();
    fs::write(run.output_dir().join(RunSpec::VALIDATION_ROWS), rows).unwrap();
    Ok(Outcome {
        metrics: Metrics::from([("valid_accuracy", accuracy)]),
        trained_tokens: 9,
    })
}

/// A comparison whose runs have all ended well.
async fn compared() -> (Bench, ExperimentView) {
    let bench = Bench::start(Script::new(|run, _, _| measured(run))).await;
    let experiment = bench.compare(json!({})).await;
    for job in &experiment.jobs {
        bench.wait(job, JobState::Succeeded).await;
    }
    (bench, experiment)
}

fn interval(experiment: &ExperimentView) -> Option<[f64; 2]> {
    experiment.comparison.table[1].difference_ci95
}

#[tokio::test]
async fn a_table_that_cannot_be_read_now_is_read_again() {
    let (bench, experiment) = compared().await;
    let table = bench.table_of(&experiment.jobs[1]);
    let rows = fs::read(&table).unwrap();
    fs::remove_file(&table).unwrap();
    fs::create_dir(&table).unwrap();
    assert_eq!(interval(&bench.look(&experiment).await), None);
    fs::remove_dir(&table).unwrap();
    fs::write(&table, rows).unwrap();
    let [low, high] = interval(&bench.look(&experiment).await).unwrap();
    assert!(low < -0.2 && -0.2 < high && high < 0.0, "{low} {high}");
}

#[tokio::test]
async fn intervals_are_made_once_for_all_who_ask_meanwhile() {
    let (bench, experiment) = compared().await;
    // A pipe can be read once.
    let table = bench.table_of(&experiment.jobs[1]);
    let rows = pipe(&table);
    let asking = async {
        let (first, second) = tokio::join!(bench.look(&experiment), bench.look(&experiment));
        [interval(&first), interval(&second)]
    };
    let writing = tokio::task::spawn_blocking({
        let table = table.clone();
        move || fs::write(table, rows)
    });
    let [first, second] = timeout(Duration::from_secs(20), asking).await.unwrap();
    writing.await.unwrap().unwrap();
    assert!(first.is_some() && first == second, "{first:?} {second:?}");
    assert_eq!(interval(&bench.look(&experiment).await), first);
}

/// A table in the place of a run's that nobody comes to the end of before it is written.
fn pipe(table: &Path) -> Vec<u8> {
    let rows = fs::read(table).unwrap();
    fs::remove_file(table).unwrap();
    let made = Command::new("mkfifo").arg(table).status().unwrap();
    assert!(made.success());
    rows
}

#[tokio::test]
async fn nothing_but_the_table_waits_for_intervals_that_take_long() {
    let bench = Bench::start(Script::new(|run, _, control| {
        match run.spec.tuning.method.name() {
            "layerwise" => until_stopped(control),
            _ => measured(run),
        }
    }))
    .await;
    let methods = json!([{"type": "full"}, {"type": "lora"}, {"type": "layerwise"}]);
    let experiment = bench.compare(json!({"methods": methods})).await;
    let [full, lora, last] = &experiment.jobs[..] else {
        panic!("{:?}", experiment.jobs)
    };
    bench.wait(full, JobState::Succeeded).await;
    bench.wait(lora, JobState::Succeeded).await;
    bench.wait(last, JobState::Running).await;
    let table = bench.table_of(lora);
    let rows = pipe(&table);
    let id = &experiment.record.id;
    let acting = async {
        let shown = bench.look(&experiment).await;
        let listed = bench.scheduler.experiments(&Scope::All, None, 9).await;
        bench.pause(&experiment).await;
        bench.resume(&experiment).await;
        let cancelled = bench.scheduler.cancel_experiment(&Scope::All, id).await;
        [shown, listed.unwrap().data.remove(0), cancelled.unwrap()]
    };
    let shown = timeout(Duration::from_secs(20), acting).await.unwrap();
    for shown in &shown {
        assert_eq!(
            (interval(shown), &shown.comparison.recommendation),
            (None, &None)
        );
        assert_eq!(shown.comparison.best, Some(0));
    }
    assert_eq!(shown[2].state, JobState::Succeeded);

    let writing = tokio::task::spawn_blocking(move || fs::write(table, rows));
    let whole = bench.scheduler.whole_experiment(&Scope::All, id);
    let whole = timeout(Duration::from_secs(20), whole)
        .await
        .unwrap()
        .unwrap();
    writing.await.unwrap().unwrap();
    assert!(interval(&whole).is_some() && whole.comparison.recommendation.is_some());
    assert_eq!(bench.look(&experiment).await.comparison, whole.comparison);
}

#[tokio::test]
async fn an_interval_that_is_known_is_shown_while_others_are_made() {
    let (key, wait) = gate();
    let bench = Bench::start(Script::new(move |run, _, _| {
        if run.spec.tuning.method.name() == "layerwise" {
            wait();
        }
        measured(run)
    }))
    .await;
    let methods = json!([{"type": "full"}, {"type": "lora"}, {"type": "layerwise"}]);
    let experiment = bench.compare(json!({"methods": methods})).await;
    bench.wait(&experiment.jobs[1], JobState::Succeeded).await;
    let id = &experiment.record.id;
    let first = bench
        .scheduler
        .whole_experiment(&Scope::All, id)
        .await
        .unwrap();
    assert!(interval(&first).is_some());

    drop(key);
    let last = &experiment.jobs[2];
    bench.wait(last, JobState::Succeeded).await;
    let table = bench.table_of(last);
    let rows = pipe(&table);
    let later = bench.look(&experiment).await;
    let shown = &later.comparison.table[2];
    assert_eq!(interval(&later), interval(&first));
    assert_eq!(
        (shown.difference.is_some(), shown.difference_ci95),
        (true, None)
    );
    let writing = tokio::task::spawn_blocking(move || fs::write(table, rows));
    let whole = bench.scheduler.whole_experiment(&Scope::All, id);
    let whole = timeout(Duration::from_secs(20), whole)
        .await
        .unwrap()
        .unwrap();
    writing.await.unwrap().unwrap();
    assert!(whole.comparison.table[2].difference_ci95.is_some());
}

#[tokio::test]
async fn a_run_that_is_paused_at_its_rung_waits_for_its_user() {
    let script = Script::new(|run, _, control| match run.spec.tuning.method.name() {
        "full" => until_stopped(control),
        _ => Err(Stop::Reached.into()),
    });
    let bench = Bench::with_workers(script, 2).await;
    let experiment = bench
        .compare(json!({"strategy": {"type": "asha", "reduction": 2}}))
        .await;
    let job = &experiment.jobs[1];
    let waiting = bench.wait(job, JobState::Paused).await;
    assert_eq!(waiting.reason, Some(Reason::Rung));
    for _ in 0..2 {
        let paused = bench.scheduler.pause(&Scope::All, &job.id).await.unwrap();
        assert_eq!((paused.state, paused.reason), (JobState::Paused, None));
    }
    let message = "The job was paused at its rung, and waits until it is resumed";
    bench.wait_for_event(job, message).await;
    let resumed = bench.scheduler.resume(&Scope::All, &job.id).await.unwrap();
    assert_eq!(resumed.state, JobState::Queued);
    let waiting = bench.wait(job, JobState::Paused).await;
    assert_eq!(waiting.reason, Some(Reason::Rung));
    let id = &experiment.record.id;
    bench
        .scheduler
        .cancel_experiment(&Scope::All, id)
        .await
        .unwrap();
}

/// A gate that stays shut until its key is dropped.
fn gate() -> (mpsc::Sender<()>, impl Fn()) {
    let (key, gate) = mpsc::channel();
    let gate = Mutex::new(gate);
    (key, move || assert!(gate.lock().unwrap().recv().is_err()))
}

#[tokio::test]
async fn a_resume_lets_a_run_stay_that_has_not_heard_of_the_pause() {
    let (key, wait) = gate();
    let bench = Bench::start(Script::new(move |_, _, control| {
        // A step that takes long.
        wait();
        control.check()?;
        done()
    }))
    .await;
    let experiment = bench.compare(json!({})).await;
    bench.wait(&experiment.jobs[0], JobState::Running).await;
    bench.wait(&experiment.jobs[1], JobState::Queued).await;
    let paused = bench.pause(&experiment).await;
    assert_eq!(
        stands(&paused),
        [
            (JobState::Running, Some(Wish::Pause)),
            (JobState::Paused, None)
        ]
    );

    let began = Instant::now();
    let resumed = bench.resume(&experiment).await;
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(
        stands(&resumed),
        [(JobState::Running, None), (JobState::Queued, None)]
    );
    assert_eq!(resumed.state, JobState::Running);
    drop(key);
    let ended = bench.end(&experiment).await;
    assert!(ended.jobs.iter().all(|job| job.attempt == 1));
}

#[tokio::test]
async fn a_run_that_leaves_its_worker_for_a_pause_that_was_taken_back_is_queued() {
    let (key, wait) = gate();
    let left = AtomicBool::new(false);
    let bench = Bench::start(Script::new(move |_, _, control| {
        if left.swap(true, Ordering::Relaxed) {
            return done();
        }
        while control.check().is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
        // A checkpoint that takes long.
        wait();
        Err(Stop::Paused.into())
    }))
    .await;
    let experiment = bench.compare(json!({})).await;
    bench.wait(&experiment.jobs[0], JobState::Running).await;
    bench.pause(&experiment).await;
    bench.resume(&experiment).await;
    drop(key);
    bench.end(&experiment).await;
    let message = "The pause was taken back; the job goes on from where it left its worker";
    bench.wait_for_event(&experiment.jobs[0], message).await;
}

fn stands(experiment: &ExperimentView) -> Vec<(JobState, Option<Wish>)> {
    let jobs = experiment.jobs.iter();
    jobs.map(|job| (job.state, job.wish)).collect()
}

#[tokio::test]
async fn runs_that_a_budget_of_minutes_has_cut_say_where() {
    let script = Script::new(|_, _, _| done()).checking(|run, _| {
        // The second seed's estimate is twice the first one's.
        let total_steps = u64::try_from(run.spec.training.max_steps).unwrap_or(100);
        let per_step = 2.0 * run.spec.training.seed as f64;
        Ok(Plan {
            total_steps,
            estimated_seconds: total_steps as f64 * per_step,
            ..plan()
        })
    });
    let bench = Bench::start(script).await;
    let more = json!({"seeds": [1, 2], "budget": {"max_minutes": 2}});
    let ended = bench.compare(more).await;
    let ended = bench.end(&ended).await;
    let warnings = &ended.comparison.warnings;
    let told: Vec<_> = warnings
        .iter()
        .map(|warning| {
            let (said, _) = warning.message.split_once(',').unwrap();
            let (_, rest) = warning.message.split_once(": ").unwrap();
            (
                said,
                rest.split_once(" of ").unwrap().0,
                warning.configuration,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("full", "ended by max_minutes at step 60", Some(0)),
            ("full", "ended by max_minutes at step 30", Some(0)),
            ("LoRA r=8", "ended by max_minutes at step 60", Some(1)),
            ("LoRA r=8", "ended by max_minutes at step 30", Some(1)),
        ]
    );
    let log = bench
        .store
        .events_after(&ended.jobs[1], 0, 100)
        .await
        .unwrap();
    assert!(
        log.iter()
            .any(|event| event.message.starts_with("ended by max_minutes at step 30"))
    );
}
