use std::{fs, sync::Arc, time::Duration};

use taper_core::{Control, JobState, Plan, TrainError};
use taper_scheduler::SchedulerError;
use taper_store::Scope;
use tokio::sync::Notify;

use crate::bench::{Bench, Script, done, failure, plan, until_stopped};

#[tokio::test]
async fn a_running_job_stops_and_leaves_nothing_half_done() {
    let script = Script::new(|run, _, control| {
        fs::create_dir_all(run.run_dir.join("output.tmp")).unwrap();
        until_stopped(control)
    });
    let bench = Bench::start(script).await;
    let job = bench.submit().await;
    bench.wait(&job, JobState::Running).await;
    let cancelled = bench.scheduler.cancel(&Scope::All, &job.id).await.unwrap();
    assert_eq!(cancelled.state, JobState::Cancelled);
    assert_eq!(bench.left_behind(&job), Vec::<String>::new());
    let again = bench.scheduler.cancel(&Scope::All, &job.id).await.unwrap();
    assert_eq!(again, cancelled);
}

#[tokio::test]
async fn a_run_that_is_slow_to_stop_is_shown_as_it_is() {
    let begun = Arc::new(Notify::new());
    let beginning = begun.clone();
    let script = Script::new(move |_, _, control| {
        beginning.notify_one();
        while control.check().is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(2500));
        until_stopped(control)
    });
    let bench = Bench::start(script).await;
    let job = bench.submit().await;
    begun.notified().await;
    let shown = bench.scheduler.cancel(&Scope::All, &job.id).await.unwrap();
    assert_eq!(shown.state, JobState::Running);
    bench.wait(&job, JobState::Cancelled).await;
}

#[tokio::test]
async fn a_queued_job_never_starts() {
    let script = Script::new(|run, _, control| {
        assert_eq!(run.attempt, 1);
        until_stopped(control)
    });
    let bench = Bench::start(script).await;
    let first = bench.submit().await;
    bench.wait(&first, JobState::Running).await;
    let second = bench.submit().await;
    bench.wait(&second, JobState::Queued).await;
    let cancelled = bench
        .scheduler
        .cancel(&Scope::All, &second.id)
        .await
        .unwrap();
    assert_eq!(
        (cancelled.state, cancelled.attempt),
        (JobState::Cancelled, 0)
    );
    bench
        .scheduler
        .cancel(&Scope::All, &first.id)
        .await
        .unwrap();
    bench.scheduler.shutdown().await;
    let second = bench
        .store
        .job(&Scope::All, &second.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((second.state, second.attempt), (JobState::Cancelled, 0));
}

fn slow_check(control: &Control) -> Result<Plan, TrainError> {
    until_stopped(control).map(|_| plan())
}

#[tokio::test]
async fn a_job_under_validation_ends_at_once_and_the_next_is_validated() {
    let script = Script::new(|_, _, control| until_stopped(control)).checking(|run, control| {
        match run.spec.metadata.contains_key("slow") {
            true => slow_check(control),
            false => Ok(plan()),
        }
    });
    let bench = Bench::start(script).await;
    let mut spec = crate::bench::spec(&bench.store).await;
    spec.metadata.insert("slow".to_owned(), "yes".to_owned());
    let slow = bench.scheduler.submit(spec).await.unwrap();
    let next = bench.submit().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let cancelled = bench.scheduler.cancel(&Scope::All, &slow.id).await.unwrap();
    assert_eq!(cancelled.state, JobState::Cancelled);
    bench.wait(&next, JobState::Running).await;
    bench.scheduler.cancel(&Scope::All, &next.id).await.unwrap();
    let slow = bench
        .store
        .job(&Scope::All, &slow.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((slow.state, slow.plan), (JobState::Cancelled, None));
}

#[tokio::test]
async fn an_ended_job_cannot_be_cancelled() {
    let script = Script::new(|run, _, _| {
        if run.spec.metadata.contains_key("bad") {
            return Err(failure("internal"));
        }
        fs::create_dir_all(run.output_dir()).unwrap();
        done()
    });
    let bench = Bench::start(script).await;
    let good = bench.submit().await;
    bench.wait(&good, JobState::Succeeded).await;
    let mut spec = crate::bench::spec(&bench.store).await;
    spec.metadata.insert("bad".to_owned(), "yes".to_owned());
    let bad = bench.scheduler.submit(spec).await.unwrap();
    bench.wait(&bad, JobState::Failed).await;
    for (job, expected) in [(good, JobState::Succeeded), (bad, JobState::Failed)] {
        match bench.scheduler.cancel(&Scope::All, &job.id).await {
            Err(SchedulerError::WrongState { state, .. }) => assert_eq!(state, expected),
            other => panic!("{other:?}"),
        }
    }
    let unknown = bench.scheduler.cancel(&Scope::All, "ftjob-none").await;
    assert!(matches!(unknown, Err(SchedulerError::NoJob(_))));
}

#[tokio::test]
async fn cancelling_while_a_run_ends_leaves_one_end() {
    let script = Script::new(|run, _, _| {
        fs::create_dir_all(run.output_dir()).unwrap();
        done()
    });
    let bench = Bench::start(script).await;
    for wait in 0..12 {
        let job = bench.submit().await;
        tokio::time::sleep(Duration::from_millis(wait)).await;
        let answer = bench.scheduler.cancel(&Scope::All, &job.id).await;
        let mut after = bench
            .store
            .job(&Scope::All, &job.id)
            .await
            .unwrap()
            .unwrap();
        if !after.state.is_terminal() {
            after = bench.wait(&job, JobState::Succeeded).await;
        }
        let refused = matches!(answer, Err(SchedulerError::WrongState { .. }));
        assert!(answer.is_ok() || refused);
        let events = bench.store.events_after(&job, 0, 100).await.unwrap();
        let ends = events.iter().filter_map(taper_core::Event::state);
        assert_eq!(
            ends.filter(|state| state.is_terminal()).collect::<Vec<_>>(),
            [after.state]
        );
    }
}
