use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use taper_core::{
    CheckpointFiles, Event, JobState, Metrics, PublishRefused, RunSink, RunSpec, TrainError,
};
use taper_scheduler::SchedulerError;
use taper_store::{Job, Scope};

use crate::bench::{Bench, Script, done, failure, plan, spec, until_stopped};

/// Leaves a checkpoint of a step, with a word that says whether it is whole.
pub(crate) fn save(
    run: &RunSpec,
    sink: &mut dyn RunSink,
    step: u64,
    word: &str,
) -> Result<(), PublishRefused> {
    let dir = run.checkpoint_dir(step);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("state"), word).unwrap();
    sink.checkpoint(CheckpointFiles {
        step,
        dir,
        metrics: Metrics::from([("step", step as f64)]),
        superseded: vec![],
    })
}

/// The first attempt leaves checkpoints with these words and waits to be stopped; the next one tells where it goes on and ends well.
fn two_attempts(words: &'static [&'static str]) -> Script {
    Script::new(move |run, sink, control| {
        if run.attempt == 1 {
            for (step, word) in (1..).zip(words) {
                save(run, sink, step, word)?;
            }
            return until_stopped(control);
        }
        let from = run.resume_from.as_ref().map(|dir| dir.file_name().unwrap());
        let text = format!("from {from:?}");
        sink.event(taper_core::RunEvent::Message(taper_core::Level::Info, text));
        fs::create_dir_all(run.output_dir()).unwrap();
        done()
    })
}

async fn messages(bench: &Bench, job: &Job) -> Vec<String> {
    let events = bench.store.events_after(job, 0, 1000).await.unwrap();
    events.into_iter().map(|event| event.message).collect()
}

async fn states(bench: &Bench, job: &Job) -> Vec<JobState> {
    let events = bench.store.events_after(job, 0, 1000).await.unwrap();
    events.iter().filter_map(Event::state).collect()
}

async fn wait_for_checkpoint(bench: &Bench, job: &Job, step: u64) {
    loop {
        let page = bench.store.checkpoints(job, None, 1).await.unwrap();
        if page.data.first().is_some_and(|newest| newest.step == step) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_paused_job_survives_a_restart_and_goes_on_from_its_checkpoint() {
    let bench = Bench::start(two_attempts(&["whole", "whole"])).await;
    let job = bench.submit().await;
    wait_for_checkpoint(&bench, &job, 2).await;
    let paused = bench.scheduler.pause(&Scope::All, &job.id).await.unwrap();
    assert_eq!(paused.state, JobState::Paused);
    assert_eq!(paused.metrics.get("step"), Some(2.0));
    assert_eq!(
        bench.scheduler.pause(&Scope::All, &job.id).await.unwrap(),
        paused
    );
    let bench = bench.restart(two_attempts(&[])).await;
    let still = bench
        .store
        .job(&Scope::All, &job.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((still.state, still.crashes), (JobState::Paused, 0));
    bench.scheduler.resume(&Scope::All, &job.id).await.unwrap();
    let ended = bench.wait(&job, JobState::Succeeded).await;
    assert_eq!(ended.attempt, 2);
    let told = messages(&bench, &job).await;
    assert!(
        told.contains(&"from Some(\"step-00000002\")".to_owned()),
        "{told:?}"
    );
    assert!(told.contains(&"The job was resumed and goes on from step 2".to_owned()));
}

#[tokio::test]
async fn a_pause_during_the_validation_takes_effect_after_it() {
    let go = Arc::new(AtomicBool::new(false));
    let gate = go.clone();
    let script = two_attempts(&[]).checking(move |_, control| {
        while !gate.load(Ordering::Acquire) {
            control.check()?;
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(plan())
    });
    let bench = Bench::start(script).await;
    let job = bench.submit().await;
    let pausing = {
        let (scheduler, id) = (bench.scheduler.clone(), job.id.clone());
        tokio::spawn(async move { scheduler.pause(&Scope::All, &id).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    go.store(true, Ordering::Release);
    let paused = pausing.await.unwrap().unwrap();
    assert_eq!(
        (paused.state, paused.plan),
        (JobState::Paused, Some(plan()))
    );
    let cancelled = bench.scheduler.cancel(&Scope::All, &job.id).await.unwrap();
    assert_eq!(
        (cancelled.state, cancelled.attempt),
        (JobState::Cancelled, 0)
    );
    use JobState::{Cancelled, Paused, ValidatingFiles};
    assert_eq!(
        states(&bench, &job).await,
        [ValidatingFiles, Paused, Cancelled]
    );
}

#[tokio::test]
async fn damaged_checkpoints_are_passed_over_and_said_to_be() {
    let bench = Bench::start(two_attempts(&["whole", "bad", "bad"])).await;
    let job = bench.submit().await;
    wait_for_checkpoint(&bench, &job, 3).await;
    bench.scheduler.pause(&Scope::All, &job.id).await.unwrap();
    bench.scheduler.resume(&Scope::All, &job.id).await.unwrap();
    bench.wait(&job, JobState::Succeeded).await;
    let told = messages(&bench, &job).await;
    for step in [2, 3] {
        let refused = format!("The checkpoint of step {step} cannot be used: it says so");
        assert!(told.contains(&refused), "{told:?}");
    }
    assert!(
        told.contains(&"from Some(\"step-00000001\")".to_owned()),
        "{told:?}"
    );
    let kept = bench.store.checkpoints(&job, None, 9).await.unwrap();
    let steps: Vec<u64> = kept.data.iter().map(|checkpoint| checkpoint.step).collect();
    assert_eq!(steps, [1]);
}

#[tokio::test]
async fn a_job_that_has_lost_all_its_checkpoints_fails_and_a_retry_begins_at_the_start() {
    let bench = Bench::start(two_attempts(&["bad"])).await;
    let job = bench.submit().await;
    wait_for_checkpoint(&bench, &job, 1).await;
    bench.scheduler.pause(&Scope::All, &job.id).await.unwrap();
    bench.scheduler.resume(&Scope::All, &job.id).await.unwrap();
    let failed = bench.wait(&job, JobState::Failed).await;
    let error = failed.error.unwrap();
    assert_eq!(
        (error.code.as_str(), error.step),
        ("checkpoint_corrupt", Some(1))
    );
    let checkpoints = bench.store.run_dir(&job.id).join("checkpoints");
    assert!(!checkpoints.exists());
    let retried = bench.scheduler.retry(&Scope::All, &job.id).await.unwrap();
    assert_eq!((retried.error, retried.finished_at), (None, None));
    let ended = bench.wait(&job, JobState::Succeeded).await;
    assert_eq!(ended.attempt, 3);
    assert!(
        messages(&bench, &job)
            .await
            .contains(&"from None".to_owned())
    );
}

#[tokio::test]
async fn a_checkpoint_that_does_not_go_with_the_model_now_is_kept_for_a_retry() {
    let bench = Bench::start(two_attempts(&["whole", "foreign", "bad"])).await;
    let job = bench.submit().await;
    wait_for_checkpoint(&bench, &job, 3).await;
    bench.scheduler.pause(&Scope::All, &job.id).await.unwrap();
    bench.scheduler.resume(&Scope::All, &job.id).await.unwrap();
    let failed = bench.wait(&job, JobState::Failed).await;
    let error = failed.error.unwrap();
    assert_eq!(
        (error.code.as_str(), error.step),
        ("checkpoint_unusable", Some(2))
    );
    let kept = bench.store.checkpoints(&job, None, 9).await.unwrap();
    let steps: Vec<u64> = kept.data.iter().map(|checkpoint| checkpoint.step).collect();
    assert_eq!(steps, [3, 2, 1]);
    // What it stands on is put back.
    fs::write(kept.data[1].dir.join("state"), "whole").unwrap();
    bench.scheduler.retry(&Scope::All, &job.id).await.unwrap();
    bench.wait(&job, JobState::Succeeded).await;
    let told = messages(&bench, &job).await;
    assert!(
        told.contains(&"from Some(\"step-00000002\")".to_owned()),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_failed_validation_is_repeated_by_a_retry() {
    let bad = Arc::new(AtomicBool::new(true));
    let is_bad = bad.clone();
    let script = two_attempts(&[]).checking(move |_, _| match is_bad.load(Ordering::Acquire) {
        true => Err(failure("invalid_training_file")),
        false => Ok(plan()),
    });
    let bench = Bench::start(script).await;
    let job = bench.submit().await;
    bench.wait(&job, JobState::Failed).await;
    bad.store(false, Ordering::Release);
    bench.scheduler.retry(&Scope::All, &job.id).await.unwrap();
    let running = bench.wait(&job, JobState::Running).await;
    assert_eq!((running.plan, running.error), (Some(plan()), None));
    bench.scheduler.cancel(&Scope::All, &job.id).await.unwrap();
}

#[tokio::test]
async fn a_higher_priority_runs_first() {
    let bench = Bench::start(Script::new(|run, _, control| {
        if run.spec.metadata.contains_key("first") {
            return until_stopped(control);
        }
        fs::create_dir_all(run.output_dir()).unwrap();
        done()
    }))
    .await;
    let mut first = spec(&bench.store).await;
    first.metadata.insert("first".to_owned(), "yes".to_owned());
    let first = bench.scheduler.submit(first).await.unwrap();
    bench.wait(&first, JobState::Running).await;
    let (early, late) = (bench.submit().await, bench.submit().await);
    bench.wait(&late, JobState::Queued).await;
    let urgent = bench
        .scheduler
        .prioritize(&Scope::All, &late.id, 7)
        .await
        .unwrap();
    assert_eq!(urgent.priority, 7);
    let place = |job: Option<Job>| job.unwrap().queue_position;
    assert_eq!(
        place(bench.store.job(&Scope::All, &late.id).await.unwrap()),
        Some(1)
    );
    assert_eq!(
        place(bench.store.job(&Scope::All, &early.id).await.unwrap()),
        Some(2)
    );
    bench
        .scheduler
        .cancel(&Scope::All, &first.id)
        .await
        .unwrap();
    let early = bench.wait(&early, JobState::Succeeded).await;
    let late = bench.wait(&late, JobState::Succeeded).await;
    let began = async |job: &Job| {
        let events = bench
            .store
            .all_events_after(&Scope::All, 0, None, 1000)
            .await
            .unwrap();
        let runs =
            |event: &&Event| event.job_id == job.id && event.state() == Some(JobState::Running);
        events.iter().find(runs).unwrap().row
    };
    assert!(began(&late).await < began(&early).await);
}

#[tokio::test]
async fn a_deleted_job_leaves_nothing_and_a_half_deleted_one_is_swept_at_the_next_start() {
    let good = || {
        Script::new(|run, _, _| {
            fs::create_dir_all(run.output_dir()).unwrap();
            fs::write(run.output_dir().join("result.csv"), "step\n").unwrap();
            done()
        })
    };
    let bench = Bench::start(good()).await;
    let job = bench.submit().await;
    let job = bench.wait(&job, JobState::Succeeded).await;
    let table = bench.store.file_path(&job.result_files[0]);
    assert!(table.is_file() && bench.store.run_dir(&job.id).is_dir());
    bench.scheduler.delete(&Scope::All, &job.id).await.unwrap();
    assert!(!table.exists() && !bench.store.run_dir(&job.id).exists());
    assert_eq!(
        bench
            .store
            .file(&Scope::All, &job.result_files[0])
            .await
            .unwrap(),
        None
    );
    assert!(
        bench
            .store
            .tuned_models(&Scope::All)
            .await
            .unwrap()
            .is_empty()
    );
    for gone in [
        bench.scheduler.delete(&Scope::All, &job.id).await,
        bench.scheduler.retry(&Scope::All, &job.id).await.map(drop),
    ] {
        assert!(matches!(gone, Err(SchedulerError::NoJob(_))));
    }
    // What a crash between the rows and the folder leaves.
    let folder = bench.store.run_dir(&job.id);
    fs::create_dir_all(folder.join("output")).unwrap();
    let bench = bench.restart(good()).await;
    assert!(!folder.exists());
    drop(bench);
}

#[tokio::test]
async fn a_checkpoint_that_cannot_be_recorded_does_not_end_the_run() {
    let script = Script::new(|run, sink, _| {
        let lost = save(run, sink, 1, "whole").and_then(|()| {
            sink.checkpoint(CheckpointFiles {
                step: 2,
                dir: run.checkpoint_dir(2),
                metrics: Metrics::new(),
                superseded: vec![],
            })
        });
        assert!(matches!(lost, Err(PublishRefused::NotKept(_))), "{lost:?}");
        fs::create_dir_all(run.output_dir()).unwrap();
        done()
    });
    let bench = Bench::start(script).await;
    let job = bench.submit().await;
    bench.wait(&job, JobState::Succeeded).await;
    let kept = bench.store.checkpoints(&job, None, 9).await.unwrap();
    assert_eq!(kept.data.len(), 1);
}

#[tokio::test]
async fn a_cancel_wins_over_a_run_that_ends_well_meanwhile() {
    let script = Script::new(|run, _, control| {
        while control.check().is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
        fs::create_dir_all(run.output_dir()).unwrap();
        fs::write(run.output_dir().join("result.csv"), "step\n").unwrap();
        done()
    });
    let bench = Bench::start(script).await;
    let job = bench.submit().await;
    bench.wait(&job, JobState::Running).await;
    let cancelled = bench.scheduler.cancel(&Scope::All, &job.id).await.unwrap();
    assert_eq!(cancelled.state, JobState::Cancelled);
    assert!(cancelled.result_files.is_empty() && cancelled.fine_tuned_model.is_none());
    assert!(!bench.store.run_dir(&job.id).join("output").exists());
}

#[tokio::test]
async fn a_stopping_server_keeps_what_users_have_asked_for() {
    // A run that ends by a shutdown, at a moment when a user has already asked for something else.
    for (wish, end) in [
        (taper_core::Wish::Pause, JobState::Paused),
        (taper_core::Wish::Cancel, JobState::Cancelled),
    ] {
        let script = Script::new(|_, _, control| until_stopped(control).or(Err(paused())));
        let bench = Bench::start(script).await;
        let job = bench.submit().await;
        bench.wait(&job, JobState::Running).await;
        bench.store.wish(&job, wish).await.unwrap().unwrap();
        bench.scheduler.shutdown().await;
        let job = bench
            .store
            .job(&Scope::All, &job.id)
            .await
            .unwrap()
            .unwrap();
        assert_eq!((job.state, job.wish), (end, None));
    }
}

fn paused() -> TrainError {
    taper_core::Stop::Paused.into()
}
