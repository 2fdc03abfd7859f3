use std::{thread::sleep, time::Duration};

use taper_core::{Event, JobState};
use taper_runner::Patience;
use taper_store::Limits;

use crate::bench::{Bench, Script, done, until_stopped};

const SECOND: Option<Duration> = Some(Duration::from_secs(1));

#[tokio::test]
async fn a_run_that_does_not_move_fails_and_the_next_one_gets_a_worker() {
    let script = Script::new(|run, _, _| {
        if run.attempt == 1 {
            // Longer than the test; a thread that hangs cannot be ended from outside.
            sleep(Duration::from_secs(60));
        }
        done()
    });
    let patience = Patience {
        stuck_after: SECOND,
        run_timeout: None,
    };
    let bench = Bench::guarded(script, patience, Limits::default()).await;
    let job = bench.submit().await;
    let failed = bench.wait(&job, JobState::Failed).await;
    assert_eq!(failed.error.unwrap().code, "stuck");
    bench.runner.retry(&job.id).await.unwrap();
    let job = bench.wait(&job, JobState::Succeeded).await;
    assert_eq!(job.attempt, 2);
    bench.runner.shutdown().await;
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
    let limits = Limits {
        min_free_bytes: 0,
        max_bytes: Some(16 << 20),
    };
    let bench = Bench::guarded(script, Patience::default(), limits).await;
    let job = bench.submit().await;
    bench.wait(&job, JobState::Running).await;
    let mut upload = bench.store.begin_upload().await.unwrap();
    upload.write(&vec![0; 17 << 20]).await.unwrap();
    let file = upload
        .finish(taper_store::NewFile::new("large.jsonl", "fine-tune"))
        .await
        .unwrap();
    bench.wait(&job, JobState::Queued).await;
    let events = bench.store.events_after(&job.id, 0, 100).await.unwrap();
    let last = events.last().unwrap();
    assert_eq!(Event::state(last), Some(JobState::Queued));
    assert!(last.message.contains("no space"), "{}", last.message);
    bench.store.delete_file(&file.id).await.unwrap();
    let job = bench.wait(&job, JobState::Succeeded).await;
    assert_eq!(job.attempt, 2);
}
