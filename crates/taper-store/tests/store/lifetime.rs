use std::{fs, time::Duration};

use sqlx::{Connection, Executor, SqliteConnection, sqlite::SqliteConnectOptions};
use taper_core::{CheckpointFiles, Event, JobState, Metrics};
use taper_store::{CurveQuery, Recovered, Scope, Store, StoreError};

use crate::{checkpoint, create, file_path, run, step, store, to, upload};

/// Opens the directory anew after a store was dropped without being closed, as a killed server leaves it.
async fn reopen(dir: &std::path::Path) -> Store {
    for _ in 0..200 {
        match Store::open(dir).await {
            Err(StoreError::InUse(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
            opened => return opened.unwrap(),
        }
    }
    panic!("the lock was never given back");
}

#[tokio::test]
async fn a_second_open_is_refused_until_the_first_closes() {
    let (dir, store) = store().await;
    match Store::open(dir.path()).await {
        Err(StoreError::InUse(path)) => assert_eq!(path, dir.path()),
        other => panic!("{other:?}"),
    }
    store.close().await.unwrap();
    let second = Store::open(dir.path()).await.unwrap();
    second.ready().await.unwrap();
    assert!(matches!(store.ready().await, Err(StoreError::Closed)));
    assert!(matches!(
        store.job(&Scope::All, "x").await,
        Err(StoreError::Closed)
    ));
    assert!(matches!(store.claim().await, Err(StoreError::Closed)));
}

#[tokio::test]
async fn everything_acknowledged_is_there_after_a_kill() {
    let (dir, store) = store().await;
    let job = run(&store).await;
    let events = store.events_after(&job, 0, 100).await.unwrap();
    drop(store);
    let store = reopen(dir.path()).await;
    assert_eq!(
        store.job(&Scope::All, &job.id).await.unwrap(),
        Some(job.clone())
    );
    assert_eq!(store.events_after(&job, 0, 100).await.unwrap(), events);
    assert!(
        store
            .file(&Scope::All, &job.spec.training_file)
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn a_job_under_which_the_server_died_goes_on_from_its_checkpoint() {
    let (dir, store) = store().await;
    let job = run(&store).await;
    let files = CheckpointFiles {
        metrics: Metrics::from([("train_loss", 0.2)]),
        ..checkpoint(&store, &job.id, 2)
    };
    let steps = |range: std::ops::RangeInclusive<u64>| range.map(|s| step(s, s as f64)).collect();
    store.append(&job.id, 1, steps(1..=2)).await.unwrap();
    store.publish_checkpoint(&job.id, 1, files).await.unwrap();
    store.append(&job.id, 1, steps(3..=5)).await.unwrap();
    drop(store);
    let store = reopen(dir.path()).await;
    let recovered = store.recover().await.unwrap();
    assert_eq!(recovered.queued, vec![job.id.clone()]);
    let found = store.job(&Scope::All, &job.id).await.unwrap().unwrap();
    assert_eq!(
        (found.state, found.attempt, found.crashes),
        (JobState::Queued, 1, 1)
    );
    assert_eq!(found.metrics.get("train_loss"), Some(0.2));
    let curves = store.curves(&job, &CurveQuery::default()).await.unwrap();
    assert_eq!(
        curves["train_loss"].iter().map(|p| p.0).collect::<Vec<_>>(),
        [1, 2]
    );
    let last = store
        .events_page(&job, None, 1)
        .await
        .unwrap()
        .data
        .remove(0);
    assert!(last.message.ends_with("from step 2"), "{}", last.message);
    assert_eq!(last.state(), Some(JobState::Queued));
    assert_eq!(store.recover().await.unwrap(), Recovered::default());
}

#[tokio::test]
async fn three_crashes_without_a_checkpoint_end_a_job() {
    let (_dir, store) = store().await;
    let job = run(&store).await;
    for _ in 0..2 {
        assert_eq!(store.recover().await.unwrap().queued.len(), 1);
        store.claim().await.unwrap().unwrap();
    }
    assert_eq!(store.recover().await.unwrap().failed, vec![job.id.clone()]);
    let job = store.job(&Scope::All, &job.id).await.unwrap().unwrap();
    assert_eq!((job.state, job.attempt), (JobState::Failed, 3));
    assert_eq!(
        job.error.clone().unwrap().code,
        taper_core::ErrorCode::Crashed
    );
    let events = store.events_after(&job, 0, 100).await.unwrap();
    assert_eq!(events.last().and_then(Event::state), Some(JobState::Failed));
}

#[tokio::test]
async fn leftovers_are_swept_at_the_start() {
    let (dir, store) = store().await;
    let job = create(&store).await;
    let kept = upload(&store, b"kept").await;
    let run_dir = store.run_dir(&job.id);
    let done = run(&store).await;
    let done_dir = store.run_dir(&done.id);
    let succeeded = to(&done, &[JobState::Running], JobState::Succeeded);
    store.transition(succeeded).await.unwrap().unwrap();
    fs::create_dir_all(done_dir.join("output")).unwrap();
    drop(store);
    let files = dir.path().join("files");
    fs::write(files.join("file-1.part"), "half").unwrap();
    fs::write(files.join("file-2"), "never known").unwrap();
    for folder in [
        "output.tmp",
        "output",
        "checkpoints/step-00000001",
        "checkpoints/step-00000002.tmp",
    ] {
        fs::create_dir_all(run_dir.join(folder)).unwrap();
    }
    let store = reopen(dir.path()).await;
    assert_eq!(fs::read_dir(&files).unwrap().count(), 3);
    assert!(file_path(&store, &kept.id).await.exists());
    assert!(!run_dir.join("output.tmp").exists());
    // Without its job's end nobody knows of a result.
    assert!(!run_dir.join("output").exists());
    assert!(done_dir.join("output").exists());
    for step in ["step-00000001", "step-00000002.tmp"] {
        assert!(!run_dir.join("checkpoints").join(step).exists());
    }
}

#[tokio::test]
async fn only_the_checkpoints_that_were_known_are_deleted() {
    let (_dir, store) = store().await;
    let job = run(&store).await;
    let files = checkpoint(&store, &job.id, 2);
    let known = files.dir.clone();
    store.publish_checkpoint(&job.id, 1, files).await.unwrap();
    let end = to(&job, &[JobState::Running], JobState::Failed);
    store.transition(end).await.unwrap().unwrap();
    // As a run writes it that was started again in this moment.
    let new = checkpoint(&store, &job.id, 3).dir;
    assert!(store.delete_checkpoints(&job.id).await.unwrap());
    assert_eq!((known.exists(), new.exists()), (false, true));
    assert!(!store.delete_checkpoints(&job.id).await.unwrap());
}

#[tokio::test]
async fn a_locked_database_refuses_in_time_and_recovers_by_itself() {
    let (dir, store) = store().await;
    let file = upload(&store, b"x").await;
    let options = SqliteConnectOptions::new().filename(dir.path().join("taper.db"));
    let mut intruder = SqliteConnection::connect_with(&options).await.unwrap();
    intruder.execute("begin immediate").await.unwrap();
    let spec = crate::spec(&file);
    let refused = store.create_job(spec.clone()).await;
    assert!(
        matches!(refused, Err(StoreError::NotCommitted)),
        "{refused:?}"
    );
    intruder.execute("rollback").await.unwrap();
    let job = store.create_job(spec).await.unwrap();
    assert_eq!(store.last_event_seq(&job).await.unwrap(), 1);
}
