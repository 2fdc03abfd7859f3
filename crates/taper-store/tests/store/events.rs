use taper_core::{JobState, Level, NewEvent};
use taper_store::{CurveQuery, Scope, StoreError};

use crate::{create, run, step, store, to};

#[tokio::test]
async fn sequence_numbers_have_no_gap_under_concurrent_appends() {
    let (_dir, store) = store().await;
    let jobs = [run(&store).await, run(&store).await];
    let mut live = store.subscribe(&Scope::All);
    let before = store.last_event_row().await.unwrap();
    let tasks: Vec<_> = (0..40)
        .map(|i| {
            let (store, id) = (store.clone(), jobs[i % 2].id.clone());
            tokio::spawn(async move {
                let event = |n| NewEvent::message(Level::Info, format!("{i}.{n}"));
                store
                    .append(&id, 1, vec![event(0), event(1)])
                    .await
                    .unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    for job in &jobs {
        let events = store.events_after(job, 0, 1000).await.unwrap();
        let seqs: Vec<_> = events.iter().map(|event| event.seq).collect();
        assert_eq!(seqs, (1..=43).collect::<Vec<_>>());
    }
    let stored = store
        .all_events_after(&Scope::All, before, None, 1000)
        .await
        .unwrap();
    assert_eq!(stored.len(), 80);
    for event in &stored {
        assert_eq!(*live.recv().await.unwrap(), *event);
    }
    let one = [jobs[0].id.clone()];
    let some = store
        .all_events_after(&Scope::All, before, Some(&one), 1000)
        .await
        .unwrap();
    assert_eq!(some.len(), 40);
}

#[tokio::test]
async fn an_older_attempt_is_refused_and_writes_nothing() {
    let (_dir, store) = store().await;
    let job = run(&store).await;
    let back = to(&job, &[JobState::Running], JobState::Queued);
    store.transition(back).await.unwrap().unwrap();
    let not_running = store.append(&job.id, 1, vec![step(1, 1.0)]).await;
    assert!(matches!(not_running, Err(StoreError::StaleAttempt { .. })));
    assert_eq!(store.claim().await.unwrap().unwrap().attempt, 2);
    let seq = store.last_event_seq(&job).await.unwrap();
    let stale = store.append(&job.id, 1, vec![step(1, 1.0)]).await;
    assert!(matches!(
        stale,
        Err(StoreError::StaleAttempt { attempt: 1, .. })
    ));
    assert_eq!(store.last_event_seq(&job).await.unwrap(), seq);
    store.append(&job.id, 2, vec![step(1, 1.0)]).await.unwrap();
}

#[tokio::test]
async fn pages_of_events_go_back_in_time() {
    let (_dir, store) = store().await;
    let job = run(&store).await;
    let other = create(&store).await;
    let page = store.events_page(&job, None, 2).await.unwrap();
    assert_eq!(page.data.iter().map(|e| e.seq).collect::<Vec<_>>(), [3, 2]);
    assert!(page.has_more);
    let after = page.data[1].row;
    let page = store.events_page(&job, Some(after), 2).await.unwrap();
    assert_eq!(page.data.iter().map(|e| e.seq).collect::<Vec<_>>(), [1]);
    assert!(!page.has_more);
    let foreign = store.events_page(&other, Some(after), 2).await;
    assert!(matches!(foreign, Err(StoreError::UnknownCursor(_))));
}

#[tokio::test]
async fn figures_become_curves_and_last_metrics() {
    let (_dir, store) = store().await;
    let job = run(&store).await;
    let events = vec![step(1, 0.5), step(2, f64::NAN), step(3, 0.25)];
    store.append(&job.id, 1, events).await.unwrap();
    let curves = store.curves(&job, &CurveQuery::default()).await.unwrap();
    assert_eq!(curves.keys().collect::<Vec<_>>(), ["train_loss"]);
    assert_eq!(
        curves["train_loss"],
        [(1, Some(0.5)), (2, None), (3, Some(0.25))]
    );
    let part = CurveQuery {
        names: Some(vec!["train_loss".to_owned(), "other".to_owned()]),
        from: Some(2),
        to: Some(2),
    };
    let curves = store.curves(&job, &part).await.unwrap();
    assert_eq!(curves["train_loss"], [(2, None)]);
    let job = store.job(&Scope::All, &job.id).await.unwrap().unwrap();
    assert_eq!(job.metrics.get("train_loss"), Some(0.25));
    assert_eq!(job.metrics.get("total_steps"), Some(100.0));
}
