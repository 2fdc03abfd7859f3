use std::{
    fs,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    thread::sleep,
    time::Duration,
};

use taper_core::{Event, JobState, Memory};
use taper_scheduler::Patience;
use taper_store::{FileRecord, Job, Limits, Scope, Store};

use crate::{
    actions::save,
    bench::{Bench, Script, done, failure, plan, spec, until_stopped},
};

const LITTLE: Limits = Limits {
    min_free_bytes: 0,
    max_bytes: Some(16 << 20),
};
const SECOND: Option<Duration> = Some(Duration::from_secs(1));
const SOON_STUCK: Patience = Patience {
    stuck_after: SECOND,
    run_timeout: None,
};

#[tokio::test]
async fn a_run_that_does_not_move_fails_and_the_next_one_gets_a_worker() {
    let script = Script::new(|run, _, _| {
        if run.attempt == 1 {
            // Longer than the test; a thread that hangs cannot be ended from outside.
            sleep(Duration::from_secs(60));
        }
        done()
    });
    let bench = Bench::guarded(script, SOON_STUCK, Limits::default()).await;
    let job = bench.submit().await;
    let failed = bench.wait(&job, JobState::Failed).await;
    assert_eq!(failed.error.unwrap().code, "stuck");
    bench.scheduler.retry(&Scope::All, &job.id).await.unwrap();
    let job = bench.wait(&job, JobState::Succeeded).await;
    assert_eq!(job.attempt, 2);
    bench.scheduler.shutdown().await;
}

/// Both ends of a hang: whether it may end, which a test must allow before its threads are waited for.
#[derive(Clone, Default)]
struct Hang(Arc<AtomicU32>);

impl Hang {
    fn wait(&self) {
        while self.0.load(SeqCst) == 0 {
            sleep(Duration::from_millis(5));
        }
    }

    fn end(&self) {
        self.0.store(1, SeqCst);
    }
}

#[tokio::test]
async fn a_validation_that_does_not_move_keeps_neither_the_next_one_nor_the_server() {
    let hang = Hang::default();
    let script = Script::new(|_, _, _| done()).checking({
        let hang = hang.clone();
        move |run, _| {
            if run.spec.metadata.contains_key("hangs") {
                hang.wait();
            }
            Ok(plan())
        }
    });
    let bench = Bench::guarded(script, SOON_STUCK, Limits::default()).await;
    let mut spec = spec(&bench.store).await;
    spec.metadata.insert("hangs".to_owned(), String::new());
    let hung = bench.scheduler.submit(spec.clone()).await.unwrap();
    let next = bench.submit().await;
    let failed = bench.wait(&hung, JobState::Failed).await;
    assert_eq!(failed.error.unwrap().code, "stuck");
    bench.wait(&next, JobState::Succeeded).await;
    let hung = bench.scheduler.submit(spec).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let stopped = tokio::time::timeout(Duration::from_secs(1), bench.scheduler.shutdown());
    stopped.await.unwrap();
    let left = bench.store.job(&Scope::All, &hung.id).await.unwrap();
    assert_eq!(left.unwrap().state, JobState::ValidatingFiles);
    hang.end();
}

/// Leaves some checkpoints in its first attempt, of which only the oldest is whole, and waits to be stopped.
fn leaving_checkpoints() -> Script {
    Script::new(|run, sink, control| {
        if run.attempt > 1 {
            return done();
        }
        for (step, word) in [(1, "whole"), (2, "bad"), (3, "bad")] {
            save(run, sink, step, word)?;
        }
        until_stopped(control)
    })
}

/// A job that a user has paused with its checkpoints.
async fn paused(bench: &Bench) -> Job {
    let job = bench.submit().await;
    bench.wait(&job, JobState::Running).await;
    let published = async {
        loop {
            let kept = bench.store.checkpoints(&job, None, 10).await.unwrap();
            if kept.data.len() == 3 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), published);
    waited.await.unwrap();
    bench.scheduler.pause(&Scope::All, &job.id).await.unwrap();
    bench.wait(&job, JobState::Paused).await
}

#[tokio::test]
async fn a_run_whose_checkpoint_cannot_be_read_hears_a_pause_and_a_cancel() {
    let hang = Hang::default();
    let script = leaving_checkpoints().verifying({
        let hang = hang.clone();
        move |_, _| hang.wait()
    });
    let bench = Bench::start(script).await;
    let job = paused(&bench).await;
    bench.scheduler.resume(&Scope::All, &job.id).await.unwrap();
    bench.wait(&job, JobState::Running).await;
    bench.scheduler.pause(&Scope::All, &job.id).await.unwrap();
    bench.wait(&job, JobState::Paused).await;
    bench.scheduler.resume(&Scope::All, &job.id).await.unwrap();
    bench.wait(&job, JobState::Running).await;
    bench.scheduler.cancel(&Scope::All, &job.id).await.unwrap();
    bench.wait(&job, JobState::Cancelled).await;
    hang.end();
}

#[tokio::test]
async fn a_run_that_looks_at_its_checkpoints_shows_with_each_that_it_lives() {
    let beats = Arc::new(Mutex::new(Vec::new()));
    let script = leaving_checkpoints().verifying({
        let beats = beats.clone();
        move |_, control| beats.lock().unwrap().push(control.beats())
    });
    let bench = Bench::start(script).await;
    let job = paused(&bench).await;
    bench.scheduler.resume(&Scope::All, &job.id).await.unwrap();
    bench.wait(&job, JobState::Succeeded).await;
    let beats = beats.lock().unwrap();
    assert_eq!(beats.len(), 3);
    assert!(beats.is_sorted_by(|one, next| one < next), "{beats:?}");
}

#[tokio::test]
async fn a_run_that_was_given_up_holds_its_memory_until_it_ends() {
    let hang = Hang::default();
    let script = Script::new({
        let hang = hang.clone();
        move |run, _, _| {
            if run.attempt == 1 && run.spec.metadata.contains_key("hangs") {
                hang.wait();
            }
            done()
        }
    });
    let script = script.taking(|_| Memory {
        weights: 600,
        ..Memory::default()
    });
    let bench = Bench::patient(script, SOON_STUCK, 1000).await;
    let mut spec = spec(&bench.store).await;
    spec.metadata.insert("hangs".to_owned(), String::new());
    let hung = bench.scheduler.submit(spec).await.unwrap();
    let failed = bench.wait(&hung, JobState::Failed).await;
    assert_eq!(failed.error.unwrap().code, "stuck");
    let next = bench.submit().await;
    let waits = "Waiting for memory: the job needs 600 B, the running ones leave 400 B; \
        runs that were given up and have not ended hold 600 B, which a restart of the server frees";
    bench.wait_for_event(&next, waits).await;
    assert_eq!(bench.scheduler.given_up_runs(), 1);
    hang.end();
    bench.wait(&next, JobState::Succeeded).await;
    assert_eq!(bench.scheduler.given_up_runs(), 0);
}

#[tokio::test]
async fn nothing_is_removed_under_a_run_that_was_given_up() {
    let hang = Hang::default();
    let script = Script::new({
        let hang = hang.clone();
        move |run, _, _| {
            let half_done = run.run_dir.join("checkpoints/step-00000001.1.tmp");
            fs::create_dir_all(half_done).unwrap();
            hang.wait();
            done()
        }
    });
    let bench = Bench::guarded(script, SOON_STUCK, Limits::default()).await;
    let job = bench.submit().await;
    let failed = bench.wait(&job, JobState::Failed).await;
    assert_eq!(failed.error.unwrap().code, "stuck");
    let checkpoints = bench.store.run_dir(&job.id).join("checkpoints");
    assert_eq!(fs::read_dir(checkpoints).unwrap().count(), 1);
    hang.end();
}

#[tokio::test]
async fn a_result_that_cannot_be_read_keeps_its_slot_no_longer_than_a_run() {
    let script = Script::new(|run, _, _| {
        if run.spec.metadata.contains_key("hangs") {
            // Whoever opens it waits for somebody who writes.
            fs::create_dir_all(run.output_dir()).unwrap();
            let mut make = Command::new("mkfifo");
            let made = make.arg(run.output_dir().join("pipe")).status();
            assert!(made.unwrap().success());
        }
        done()
    });
    let bench = Bench::guarded(script, SOON_STUCK, Limits::default()).await;
    let mut spec = spec(&bench.store).await;
    spec.metadata.insert("hangs".to_owned(), String::new());
    let hung = bench.scheduler.submit(spec).await.unwrap();
    let next = bench.submit().await;
    let failed = bench.wait(&hung, JobState::Failed).await;
    assert_eq!(failed.error.unwrap().code, "stuck");
    bench.wait(&next, JobState::Succeeded).await;
    let pipe = bench.store.run_dir(&hung.id).join("output/pipe");
    drop(fs::OpenOptions::new().write(true).open(pipe).unwrap());
}

/// Runs a job whose first attempts find the disk full, though it is not once they have gone.
async fn finding_no_space(attempts: u32) -> Bench {
    let script = Script::new(move |run, _, _| match run.attempt <= attempts {
        true => Err(failure("no_space")),
        false => done(),
    });
    Bench::guarded(script, Patience::default(), Limits::default()).await
}

#[tokio::test]
async fn a_run_that_finds_the_disk_full_is_tried_again_some_times() {
    let bench = finding_no_space(2).await;
    let job = bench.submit().await;
    assert_eq!(bench.wait(&job, JobState::Succeeded).await.attempt, 3);
    let bench = finding_no_space(3).await;
    let job = bench.submit().await;
    let failed = bench.wait(&job, JobState::Failed).await;
    assert_eq!(failed.error.unwrap().code, "no_space");
    assert_eq!(failed.attempt, 3);
}

#[tokio::test]
async fn a_run_that_takes_too_long_stops_and_fails() {
    let script = Script::new(|_, _, control| until_stopped(control));
    let patience = Patience {
        stuck_after: None,
        run_timeout: SECOND,
    };
    let bench = Bench::guarded(script, patience, Limits::default()).await;
    let job = bench.submit().await;
    let failed = bench.wait(&job, JobState::Failed).await;
    assert_eq!(failed.error.unwrap().code, "run_timeout");
}

#[tokio::test]
async fn without_space_a_run_waits_in_the_queue_and_goes_on_by_itself() {
    let script = Script::new(|run, _, control| match run.attempt {
        1 => until_stopped(control),
        _ => done(),
    });
    let bench = Bench::guarded(script, Patience::default(), LITTLE).await;
    let job = bench.submit().await;
    bench.wait(&job, JobState::Running).await;
    let file = fill(&bench.store).await;
    bench.wait(&job, JobState::Queued).await;
    let events = bench.store.events_after(&job, 0, 100).await.unwrap();
    let last = events.last().unwrap();
    assert_eq!(Event::state(last), Some(JobState::Queued));
    assert!(last.message.contains("no space"), "{}", last.message);
    bench
        .store
        .delete_file(&Scope::All, &file.id)
        .await
        .unwrap();
    let job = bench.wait(&job, JobState::Succeeded).await;
    assert_eq!(job.attempt, 2);
}

/// Puts in a file that takes more than there is.
async fn fill(store: &Store) -> FileRecord {
    let mut upload = store.begin_upload().await.unwrap();
    upload.write(&vec![0; 17 << 20]).await.unwrap();
    upload
        .finish(taper_store::NewFile::new("large.jsonl", "fine-tune"))
        .await
        .unwrap()
}

/// Waits until a number has been reached.
async fn reach(number: &AtomicU32, least: u32) {
    for _ in 0..2000 {
        if number.load(SeqCst) >= least {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{least} was not reached");
}

#[tokio::test]
async fn a_run_that_only_its_own_checkpoint_keeps_from_going_on_fails_in_the_end() {
    let (paused, freed) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let script = Script::new({
        let (paused, freed) = (paused.clone(), freed.clone());
        move |run, _, control| {
            let stopped = until_stopped(control);
            // Its checkpoint fills the disk, is given up, and the shortage is over with it.
            paused.store(run.attempt, SeqCst);
            while freed.load(SeqCst) < run.attempt {
                sleep(Duration::from_millis(5));
            }
            stopped
        }
    });
    let bench = Bench::guarded(script, Patience::default(), LITTLE).await;
    let job = bench.submit().await;
    for attempt in 1..=3 {
        bench.wait(&job, JobState::Running).await;
        let file = fill(&bench.store).await;
        reach(&paused, attempt).await;
        bench
            .store
            .delete_file(&Scope::All, &file.id)
            .await
            .unwrap();
        freed.store(attempt, SeqCst);
        if attempt < 3 {
            let next = async {
                while bench
                    .store
                    .job(&Scope::All, &job.id)
                    .await
                    .unwrap()
                    .unwrap()
                    .attempt
                    == attempt
                {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), next)
                .await
                .unwrap();
        }
    }
    let failed = bench.wait(&job, JobState::Failed).await;
    assert_eq!(failed.error.unwrap().code, "no_space");
    assert_eq!(failed.attempt, 3);
}

#[tokio::test]
async fn a_run_that_ends_without_space_keeps_its_result() {
    let full = Arc::new(AtomicU32::new(0));
    let script = Script::new({
        let full = full.clone();
        move |run, _, _| {
            while full.load(SeqCst) == 0 {
                sleep(Duration::from_millis(5));
            }
            fs::create_dir_all(run.output_dir()).unwrap();
            fs::write(run.output_dir().join("result.csv"), "step\n1\n").unwrap();
            done()
        }
    });
    let bench = Bench::guarded(script, Patience::default(), LITTLE).await;
    let job = bench.submit().await;
    bench.wait(&job, JobState::Running).await;
    fill(&bench.store).await;
    assert!(bench.store.look_at_disk().await.unwrap().is_some());
    full.store(1, SeqCst);
    let job = bench.wait(&job, JobState::Succeeded).await;
    assert_eq!((job.attempt, job.result_files.len()), (1, 1));
}
