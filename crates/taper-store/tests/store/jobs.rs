use std::fs;

use sqlx::{Connection, Row, SqliteConnection, sqlite::SqliteConnectOptions};
use taper_core::{CheckpointFiles, JobState, Memory, Metrics, Plan, Project, RequestedAction};
use taper_store::{
    Artifact, Change, FileRecord, FreeMemory, Job, JobFilter, JobResult, MetadataFilter, Scope,
    StoreError, Transition,
};

use crate::{checkpoint, create, enqueue, file_path, run, store, to};

fn artifact() -> Artifact {
    Artifact {
        path: "adapter/adapter_model.safetensors".to_owned(),
        bytes: 3,
        sha256: "00".to_owned(),
    }
}

fn success(job: &Job) -> Transition {
    Transition {
        attempt: Some(job.attempt),
        change: Change {
            result: Some(JobResult {
                fine_tuned_model: "ft:base:default::abc".to_owned(),
                trained_tokens: 17,
                metrics: Metrics::from([("train_seconds", 2.5)]),
                artifacts: vec![artifact()],
                result_files: vec![FileRecord {
                    project: Project::default(),
                    row: 0,
                    id: format!("file-of-{}", job.id),
                    bytes: 5,
                    created_at: 1,
                    filename: "step_metrics.csv".to_owned(),
                    purpose: "fine-tune-results".to_owned(),
                    sha256: "00".to_owned(),
                    expires_at: None,
                }],
            }),
            ..Change::default()
        },
        ..to(job, &[JobState::Running], JobState::Succeeded)
    }
}

#[tokio::test]
async fn artifacts_and_models_are_looked_up_by_what_success_wrote() {
    let (_dir, store) = store().await;
    let job = run(&store).await;
    store.transition(success(&job)).await.unwrap().unwrap();
    assert_eq!(store.artifacts(&job).await.unwrap(), vec![artifact()]);
    let found = store.artifact(&job, &artifact().path).await.unwrap();
    assert_eq!(found, Some(artifact()));
    let lies = store.local(&artifact().key(&job)).await.unwrap();
    let output = store.run_dir(&job.id).join("output");
    assert_eq!(lies, output.join(artifact().path));
    for path in ["", "../output/adapter", "adapter", "/etc/passwd"] {
        assert_eq!(store.artifact(&job, path).await.unwrap(), None);
    }
    assert_eq!(store.tuned_models(&Scope::All).await.unwrap().len(), 1);
    assert!(
        store
            .tuned(&Scope::All, "ft:other")
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn a_cancel_that_overtakes_a_result_takes_its_files_along() {
    let (dir, store) = store().await;
    let job = run(&store).await;
    let table = dir.path().join("table.csv");
    fs::write(&table, "step\n").unwrap();
    let kept = store.keep_result_file(&job.project, "step_metrics.csv", &table);
    let kept = kept.await.unwrap();
    let mut success = success(&job);
    if let Some(result) = &mut success.change.result {
        result.result_files = vec![kept.clone()];
    }
    store
        .request(&job, RequestedAction::Cancel)
        .await
        .unwrap()
        .unwrap();
    let ended = store.transition(success).await.unwrap().unwrap();
    assert_eq!(ended.state, JobState::Cancelled);
    assert!(!file_path(&store, &kept.id).await.exists());
    assert!(file_path(&store, &job.spec.training_file).await.exists());
}

#[tokio::test]
async fn a_job_that_waits_for_memory_is_told_once_more_when_that_may_not_end() {
    let (_dir, store) = store().await;
    let job = create(&store).await;
    let memory = Memory {
        weights: 600,
        ..Memory::default()
    };
    let plan = Plan {
        memory,
        ..Plan::default()
    };
    let queued = Transition {
        change: Change {
            plan: Some(plan),
            ..Change::default()
        },
        ..to(&job, &[JobState::ValidatingFiles], JobState::Queued)
    };
    store.transition(queued).await.unwrap().unwrap();
    for given_up in [0, 0, 500, 500] {
        let bytes = 400;
        let claimed = store.claim_within(FreeMemory { bytes, given_up });
        assert_eq!(claimed.await.unwrap(), None);
    }
    let events = store.events_after(&job, 0, 10).await.unwrap();
    let told = events.iter().map(|event| event.message.as_str());
    let told: Vec<_> = told.filter(|it| it.starts_with("Waiting")).collect();
    let waits = "Waiting for memory: the job needs 600 B, the running ones leave 400 B";
    assert_eq!(told.len(), 2);
    assert_eq!(told[0], waits);
    assert!(told[1].ends_with("hold 500 B, which a restart of the server frees"));
}

#[tokio::test]
async fn a_job_lives_from_its_creation_to_its_success() {
    let (_dir, store) = store().await;
    let created = create(&store).await;
    assert_eq!(
        (created.state, created.attempt),
        (JobState::ValidatingFiles, 0)
    );
    assert_eq!(
        store.unvalidated_jobs().await.unwrap(),
        vec![created.id.clone()]
    );
    let queued = to(&created, &[JobState::ValidatingFiles], JobState::Queued);
    store.transition(queued).await.unwrap().unwrap();
    let claimed = store.claim().await.unwrap().unwrap();
    assert_eq!((claimed.state, claimed.attempt), (JobState::Running, 1));
    assert!(claimed.started_at.is_some());
    assert_eq!(store.claim().await.unwrap(), None);
    let succeeded = success(&claimed);
    let done = store.transition(succeeded).await.unwrap().unwrap();
    assert_eq!(
        done.fine_tuned_model.as_deref(),
        Some("ft:base:default::abc")
    );
    assert_eq!(
        (done.trained_tokens, done.metrics.get("train_seconds")),
        (Some(17), Some(2.5))
    );
    let states: Vec<_> = store.events_after(&done, 0, 10).await.unwrap();
    let states: Vec<_> = states.iter().filter_map(taper_core::Event::state).collect();
    assert_eq!(
        states,
        [
            JobState::ValidatingFiles,
            JobState::Queued,
            JobState::Running,
            JobState::Succeeded
        ]
    );
}

#[tokio::test]
async fn a_transition_happens_only_from_its_states_and_attempt() {
    let (_dir, store) = store().await;
    let job = run(&store).await;
    let events = store.last_event_seq(&job).await.unwrap();
    let wrong_state = to(&job, &[JobState::Queued], JobState::Cancelled);
    assert_eq!(store.transition(wrong_state).await.unwrap(), None);
    let stale = Transition {
        attempt: Some(0),
        ..to(&job, &[JobState::Running], JobState::Failed)
    };
    assert_eq!(store.transition(stale).await.unwrap(), None);
    let mut unknown = to(&job, &[JobState::Running], JobState::Failed);
    unknown.job = "ftjob-none".to_owned();
    assert_eq!(store.transition(unknown).await.unwrap(), None);
    assert_eq!(store.last_event_seq(&job).await.unwrap(), events);
}

#[tokio::test]
async fn racing_transitions_have_one_winner() {
    let (_dir, store) = store().await;
    let job = run(&store).await;
    let tasks: Vec<_> = (0..20)
        .map(|i| {
            let end = if i % 2 == 0 {
                JobState::Cancelled
            } else {
                JobState::Failed
            };
            let (store, it) = (store.clone(), to(&job, &[JobState::Running], end));
            tokio::spawn(async move { store.transition(it).await.unwrap().is_some() })
        })
        .collect();
    let mut winners = 0;
    for task in tasks {
        winners += u32::from(task.await.unwrap());
    }
    assert_eq!(winners, 1);
}

#[tokio::test]
async fn the_queue_is_served_in_order_and_each_job_once() {
    let (_dir, store) = store().await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(enqueue(&store).await.id);
    }
    let second = store.job(&Scope::All, &ids[1]).await.unwrap().unwrap();
    assert_eq!(second.queue_position, Some(2));
    let filter = JobFilter {
        limit: 4,
        ..JobFilter::default()
    };
    let page = store.jobs(&Scope::All, &filter).await.unwrap().data;
    let places: Vec<_> = page.iter().map(|job| job.queue_position).collect();
    assert_eq!(places, [Some(6), Some(5), Some(4), Some(3)]);
    let claims: Vec<_> = (0..10)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.claim().await.unwrap().map(|job| job.id) })
        })
        .collect();
    let mut claimed = Vec::new();
    for claim in claims {
        claimed.extend(claim.await.unwrap());
    }
    claimed.sort();
    assert_eq!(claimed, ids);
}

#[tokio::test]
async fn the_claim_reads_the_queue_index_and_sorts_nothing() {
    let (dir, store) = store().await;
    drop(store);
    let options = SqliteConnectOptions::new().filename(dir.path().join("taper.db"));
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let plan: Vec<String> = sqlx::query(
        "explain query plan select id from jobs where state = 'queued' order by priority desc, row limit 1",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap()
    .iter()
    .map(|row| row.get("detail"))
    .collect();
    assert_eq!(plan, ["SCAN jobs USING INDEX jobs_queue"]);
}

#[tokio::test]
async fn jobs_are_listed_by_page_and_by_metadata() {
    let (_dir, store) = store().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(create(&store).await.id);
    }
    ids.reverse();
    let mut seen: Vec<String> = Vec::new();
    loop {
        let filter = JobFilter {
            after: seen.last().cloned(),
            limit: 2,
            metadata: MetadataFilter::Pairs(vec![("team".to_owned(), "a".to_owned())]),
        };
        let page = store.jobs(&Scope::All, &filter).await.unwrap();
        seen.extend(page.data.into_iter().map(|job| job.id));
        if !page.has_more {
            break;
        }
    }
    assert_eq!(seen, ids);
    let other = JobFilter {
        limit: 2,
        metadata: MetadataFilter::Pairs(vec![("team".to_owned(), "b".to_owned())]),
        ..JobFilter::default()
    };
    assert!(
        store
            .jobs(&Scope::All, &other)
            .await
            .unwrap()
            .data
            .is_empty()
    );
    let unknown = JobFilter {
        after: Some("ftjob-none".to_owned()),
        limit: 2,
        ..JobFilter::default()
    };
    assert!(matches!(
        store.jobs(&Scope::All, &unknown).await,
        Err(StoreError::UnknownCursor(_))
    ));
}

#[tokio::test]
async fn checkpoints_are_published_and_superseded() {
    let (_dir, store) = store().await;
    let job = run(&store).await;
    let publish = async |attempt, step: u64, superseded: &[u64]| {
        let files = CheckpointFiles {
            metrics: Metrics::from([("valid_loss", f64::NAN)]),
            superseded: superseded.to_vec(),
            ..checkpoint(&store, &job.id, step)
        };
        fs::create_dir_all(files.dir.join("inner")).unwrap();
        fs::write(files.dir.join("inner/state"), vec![0; 10]).unwrap();
        store.publish_checkpoint(&job.id, attempt, files).await
    };
    let first = publish(1, 10, &[]).await.unwrap();
    let second = publish(1, 20, &[]).await.unwrap();
    assert_eq!((first.bytes, second.step), (10, 20));
    let page = store.checkpoints(&job, None, 1).await.unwrap();
    assert_eq!((page.data[0].step, page.has_more), (20, true));
    assert!(page.data[0].metrics.get("valid_loss").unwrap().is_nan());
    let page = store.checkpoints(&job, Some(&second.id), 5).await.unwrap();
    assert_eq!(page.data.iter().map(|c| c.step).collect::<Vec<_>>(), [10]);
    publish(1, 30, &[10, 20]).await.unwrap();
    let page = store.checkpoints(&job, None, 5).await.unwrap();
    assert_eq!(page.data.iter().map(|c| c.step).collect::<Vec<_>>(), [30]);
    for gone in [&first, &second] {
        assert!(!store.local(&gone.key).await.unwrap().exists());
    }
    assert!(matches!(
        publish(2, 40, &[]).await,
        Err(StoreError::StaleAttempt { attempt: 2, .. })
    ));
    assert!(matches!(
        store.checkpoints(&job, Some(&second.id), 5).await,
        Err(StoreError::UnknownCursor(_))
    ));
}

#[tokio::test]
async fn a_checkpoint_is_known_whatever_becomes_of_those_before_it() {
    let (_dir, store) = store().await;
    let job = run(&store).await;
    let first = checkpoint(&store, &job.id, 1);
    let second = CheckpointFiles {
        superseded: vec![1],
        ..checkpoint(&store, &job.id, 2)
    };
    let dir = first.dir.clone();
    store.publish_checkpoint(&job.id, 1, first).await.unwrap();
    fs::remove_dir(dir).unwrap();
    store.publish_checkpoint(&job.id, 1, second).await.unwrap();
    let known = store.checkpoints(&job, None, 10).await.unwrap().data;
    let steps: Vec<_> = known.iter().map(|checkpoint| checkpoint.step).collect();
    assert_eq!(steps, [2]);
}

#[tokio::test]
async fn a_job_is_not_tried_again_while_another_starts_from_its_checkpoint() {
    let (_dir, store) = store().await;
    let job = run(&store).await;
    let files = checkpoint(&store, &job.id, 5);
    store.publish_checkpoint(&job.id, 1, files).await.unwrap();
    let failed = to(&job, &[JobState::Running], JobState::Failed);
    store.transition(failed).await.unwrap().unwrap();

    let model = job.tuned_model_name();
    let name = format!("{model}:ckpt-step-5");
    assert!(store.tuned(&Scope::All, &name).await.unwrap().is_some());
    for other in ["05", "+5", "5 ", ""] {
        let other = format!("{model}:ckpt-step-{other}");
        assert!(
            store.tuned(&Scope::All, &other).await.unwrap().is_none(),
            "{other}"
        );
    }
    let mut user = job.spec.clone();
    user.model = name;
    let user = store.create_job(user).await.unwrap();
    let again = to(&job, &[JobState::Failed], JobState::Queued);
    match store.transition(again.clone()).await {
        Err(StoreError::ModelInUse { job, .. }) => assert_eq!(job, user.id),
        other => panic!("{other:?}"),
    }
    let gone = to(&user, &[JobState::ValidatingFiles], JobState::Cancelled);
    store.transition(gone).await.unwrap().unwrap();
    assert!(store.transition(again).await.unwrap().is_some());
}
