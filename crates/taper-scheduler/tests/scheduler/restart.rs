use std::{fs, sync::Arc};

use taper_core::{CheckpointFiles, JobState, Level, Metrics};
use taper_scheduler::SchedulerError;
use taper_store::{Change, Scope, Transition};

use crate::bench::{Bench, Script, done, plan, spec, until_stopped};

fn finishes() -> Script {
    Script::new(|run, _, _| {
        fs::create_dir_all(run.output_dir()).unwrap();
        done()
    })
}

#[tokio::test]
async fn a_stopped_server_keeps_its_running_job_for_the_next_start() {
    let bench = Bench::start(Script::new(|_, _, control| until_stopped(control))).await;
    let job = bench.submit().await;
    bench.wait(&job, JobState::Running).await;
    bench.scheduler.shutdown().await;
    let stopped = bench
        .store
        .job(&Scope::All, &job.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((stopped.state, stopped.crashes), (JobState::Queued, 0));
    let refused = bench.scheduler.submit(stopped.spec).await;
    assert!(matches!(refused, Err(SchedulerError::Stopping)));
    let bench = bench.restart(finishes()).await;
    let job = bench.wait(&job, JobState::Succeeded).await;
    assert_eq!((job.attempt, job.crashes), (2, 0));
}

#[tokio::test]
async fn a_job_left_in_validation_is_validated_by_the_next_start() {
    let never = Script::new(|_, _, _| panic!("must not train"))
        .checking(|_, control| until_stopped(control).map(|_| plan()));
    let bench = Bench::start(never).await;
    let jobs = [bench.submit().await, bench.submit().await];
    let bench = bench.restart(finishes()).await;
    for job in &jobs {
        bench.wait(job, JobState::Succeeded).await;
    }
}

#[tokio::test]
async fn a_killed_servers_job_goes_on_from_its_checkpoint() {
    let bench = Bench::start(finishes()).await;
    bench.scheduler.shutdown().await;
    // What a server leaves that is killed while it trains: a job that is running, with a checkpoint.
    let store = &bench.store;
    let job = store.create_job(spec(store).await).await.unwrap();
    let queued = Transition {
        job: job.id.clone(),
        from: &[JobState::ValidatingFiles],
        attempt: None,
        to: JobState::Queued,
        level: Level::Info,
        message: "queued".to_owned(),
        change: Change::default(),
    };
    store.transition(queued).await.unwrap().unwrap();
    store.claim().await.unwrap().unwrap();
    let dir = store.run_dir(&job.id).join("checkpoints/step-00000004");
    fs::create_dir_all(&dir).unwrap();
    let files = CheckpointFiles {
        step: 4,
        dir: dir.clone(),
        metrics: Metrics::new(),
        superseded: vec![],
    };
    store.publish_checkpoint(&job.id, 1, files).await.unwrap();
    let expected = Arc::new(dir);
    let bench = bench
        .restart(Script::new(move |run, _, _| {
            assert_eq!(run.resume_from.as_ref(), Some(&*expected));
            fs::create_dir_all(run.output_dir()).unwrap();
            done()
        }))
        .await;
    let job = bench.wait(&job, JobState::Succeeded).await;
    assert_eq!((job.attempt, job.crashes), (2, 1));
}
