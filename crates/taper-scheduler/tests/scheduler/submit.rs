use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use taper_core::{Project, code};
use taper_scheduler::SchedulerError;
use taper_store::{JobFilter, Scope};
use tokio::task::JoinSet;

use crate::bench::{Bench, Script, done, plan, spec, until_stopped};

#[tokio::test]
async fn what_does_not_exist_is_named_by_its_field() {
    let bench = Bench::start(Script::new(|_, _, _| done())).await;
    let mut upload = bench.store.begin_upload().await.unwrap();
    upload.write(b"x").await.unwrap();
    let batch = upload
        .finish(taper_store::NewFile::new("b.jsonl", "batch"))
        .await
        .unwrap();
    let mut wrong = spec(&bench.store).await;
    wrong.model = "../base".to_owned();
    wrong.training_file = "file-none".to_owned();
    wrong.validation_file = Some(batch.id);
    let Err(SchedulerError::Spec(error)) = bench.scheduler.submit(wrong).await else {
        panic!("accepted");
    };
    let found: Vec<_> = error
        .findings()
        .iter()
        .map(|finding| (finding.param.as_str(), finding.code.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            ("model", code::MODEL_NOT_FOUND),
            ("training_file", code::FILE_NOT_FOUND),
            ("validation_file", code::INVALID_VALUE),
        ]
    );
    let filter = JobFilter {
        limit: 1,
        ..JobFilter::default()
    };
    assert!(
        bench
            .store
            .jobs(&Scope::All, &filter)
            .await
            .unwrap()
            .data
            .is_empty()
    );
}

#[tokio::test]
async fn a_plan_that_nobody_waits_for_any_more_is_given_up() {
    let (begun, ended) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let script = Script::new(|_, _, _| done()).checking({
        let (begun, ended) = (begun.clone(), ended.clone());
        move |_, control| {
            begun.fetch_add(1, SeqCst);
            let stopped = until_stopped(control).map(|_| plan());
            ended.fetch_add(1, SeqCst);
            stopped
        }
    });
    let bench = Bench::start(script).await;
    let spec = spec(&bench.store).await;
    let mut requests = JoinSet::new();
    for _ in 0..5 {
        let (scheduler, spec) = (bench.scheduler.clone(), spec.clone());
        requests.spawn(async move { scheduler.plan(&Project::default(), spec).await });
    }
    let answer = tokio::time::timeout(Duration::from_millis(500), requests.join_next()).await;
    assert!(answer.is_err());
    requests.shutdown().await;
    // No more than two at once.
    assert_eq!(begun.load(SeqCst), 2);
    for _ in 0..2000 {
        if ended.load(SeqCst) == 2 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the work goes on");
}
