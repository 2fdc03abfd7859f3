use std::time::Duration;

use serde_json::json;
use taper_core::{
    CheckpointFiles, ExperimentRequest, JobState, Level, Metrics, NewEvent, Plan, Project, Reason,
    RequestedAction,
};
use taper_store::{
    Change, ExperimentRecord, FileRecord, Job, JobFilter, NewExperiment, Scope, Store, StoreError,
    Transition,
};

use crate::{checkpoint, run, store, to, upload};

/// Two ranks, of which one is stopped at step 5 of 10.
fn new(file: &FileRecord) -> NewExperiment {
    let body = json!({
        "model": "base", "training_file": file.id, "validation_file": file.id,
        "grid": {"tuning.r": [2, 4]}, "strategy": {"type": "asha", "reduction": 2},
    });
    let request = ExperimentRequest::parse(&body).unwrap();
    let specs = request.specs().cloned().collect();
    let (spec, jobs) = request.settle(specs).unwrap();
    NewExperiment {
        project: Project::default(),
        spec,
        jobs,
        once: None,
    }
}

async fn create(store: &Store) -> (ExperimentRecord, Vec<Job>) {
    let file = upload(store, b"{}").await;
    let record = store.create_experiment(new(&file)).await.unwrap();
    let jobs = store.experiment_jobs(&record).await.unwrap();
    (record, jobs)
}

/// Takes a job into its worker.
async fn start(store: &Store, job: &Job) -> Job {
    let queued = Transition {
        change: Change {
            plan: Some(Plan {
                total_steps: 10,
                ..Plan::default()
            }),
            pause_at_step: Some(5),
            ..Change::default()
        },
        ..to(job, &[JobState::ValidatingFiles], JobState::Queued)
    };
    store.transition(queued).await.unwrap().unwrap();
    store.claim().await.unwrap().unwrap()
}

/// Brings a running job to its rung.
async fn reach(store: &Store, job: &Job, accuracy: f64) -> Job {
    let files = CheckpointFiles {
        metrics: Metrics::from([("step", 5.0), ("valid_accuracy", accuracy)]),
        ..checkpoint(store, &job.id, 5)
    };
    let published = store.publish_checkpoint(&job.id, job.attempt, files);
    published.await.unwrap();
    let paused = Transition {
        change: Change {
            reason: Some(Reason::Rung),
            ..Change::default()
        },
        ..to(job, &[JobState::Running], JobState::Paused)
    };
    store.transition(paused).await.unwrap().unwrap()
}

#[tokio::test]
async fn all_jobs_are_made_or_none() {
    let (_dir, store) = store().await;
    let file = upload(&store, b"{}").await;
    let mut new = new(&file);
    new.jobs[1].1.validation_file = Some("file-gone".to_owned());
    let refused = store.create_experiment(new.clone()).await;
    assert!(matches!(refused, Err(StoreError::UnknownFile(id)) if id == "file-gone"));
    let filter = JobFilter {
        limit: 9,
        ..JobFilter::default()
    };
    assert_eq!(store.jobs(&Scope::All, &filter).await.unwrap().data, []);
    assert_eq!(
        store.experiments(&Scope::All, None, 9).await.unwrap().data,
        []
    );

    new.jobs[1].1.validation_file = None;
    let record = store.create_experiment(new).await.unwrap();
    let found = store.experiment(&Scope::All, &record.id).await.unwrap();
    assert_eq!(found.as_ref(), Some(&record));
    let parts = store.experiment_jobs(&record).await.unwrap();
    let parts: Vec<_> = parts.iter().map(|job| job.part.clone().unwrap()).collect();
    assert_eq!(
        parts
            .iter()
            .map(|part| part.configuration)
            .collect::<Vec<_>>(),
        [0, 1]
    );
    assert!(parts.iter().all(|part| part.experiment == record.id));
}

#[tokio::test]
async fn a_rung_is_decided_once_all_have_come_to_it() {
    let (_dir, store) = store().await;
    let (record, jobs) = create(&store).await;
    let first = start(&store, &jobs[0]).await;
    assert_eq!(reach(&store, &first, 0.5).await.reason, Some(Reason::Rung));
    assert_eq!(
        store.experiments_at_rung().await.unwrap(),
        [record.id.as_str()]
    );
    assert!(!store.decide_rung(&record.id).await.unwrap());
    let second = start(&store, &jobs[1]).await;
    reach(&store, &second, 0.7).await;

    store
        .stop_experiment(&record, RequestedAction::Pause)
        .await
        .unwrap();
    assert_eq!(store.experiments_at_rung().await.unwrap(), [""; 0]);
    assert!(!store.decide_rung(&record.id).await.unwrap());
    store.resume_experiment(&record).await.unwrap();

    assert!(store.decide_rung(&record.id).await.unwrap());
    let ended = store.experiment_jobs(&record).await.unwrap();
    let stands: Vec<_> = ended
        .iter()
        .map(|job| (job.state, job.reason, job.pause_at_step))
        .collect();
    assert_eq!(
        stands,
        [
            (JobState::Cancelled, Some(Reason::StoppedEarly), Some(5)),
            (JobState::Queued, None, None),
        ]
    );
    assert!(!store.decide_rung(&record.id).await.unwrap());
    assert_eq!(
        store
            .checkpoints(&jobs[0], None, 9)
            .await
            .unwrap()
            .data
            .len(),
        1
    );
}

#[tokio::test]
async fn a_run_that_a_user_pauses_at_its_rung_waits_for_the_user() {
    let (_dir, store) = store().await;
    let (record, jobs) = create(&store).await;
    let job = start(&store, &jobs[0]).await;
    store
        .request(&job, RequestedAction::Pause)
        .await
        .unwrap()
        .unwrap();
    let paused = reach(&store, &job, 0.5).await;
    assert_eq!(
        (paused.state, paused.reason, paused.requested),
        (JobState::Paused, None, None)
    );
    assert_eq!(store.experiments_at_rung().await.unwrap(), [""; 0]);
    let stopped = store
        .stop_experiment(&record, RequestedAction::Cancel)
        .await
        .unwrap();
    assert!(stopped.iter().all(|job| job.state == JobState::Cancelled) && stopped.len() == 2);
}

#[tokio::test]
async fn a_run_that_waits_at_its_rung_can_be_held_there() {
    let (_dir, store) = store().await;
    let (record, jobs) = create(&store).await;
    let running = start(&store, &jobs[0]).await;
    assert_eq!(store.hold(&running).await.unwrap(), None);
    reach(&store, &running, 0.5).await;
    let second = start(&store, &jobs[1]).await;
    reach(&store, &second, 0.7).await;

    let held = store.hold(&running).await.unwrap().unwrap();
    assert_eq!((held.state, held.reason), (JobState::Paused, None));
    assert!(!store.decide_rung(&record.id).await.unwrap());
    let ended = store.experiment_jobs(&record).await.unwrap();
    assert!(ended.iter().all(|job| job.state == JobState::Paused));
    assert_eq!(store.hold(&running).await.unwrap(), None);
}

/// Ids of the jobs that may be deleted.
async fn old(store: &Store) -> Vec<String> {
    let old = store.ended_before(Duration::ZERO, 9).await.unwrap();
    old.into_iter().map(|job| job.id).collect()
}

#[tokio::test]
async fn the_runs_of_an_experiment_grow_old_together() {
    let (_dir, store) = store().await;
    let (record, jobs) = create(&store).await;
    let alone = run(&store).await;
    let end = async |job: &Job, from| {
        let ended = to(job, from, JobState::Cancelled);
        store.transition(ended).await.unwrap().unwrap();
    };
    end(&jobs[1], &[JobState::ValidatingFiles]).await;
    end(&alone, &[JobState::Running]).await;
    // The other run is open.
    assert_eq!(old(&store).await, [alone.id.as_str()]);
    end(&jobs[0], &[JobState::ValidatingFiles]).await;
    assert_eq!(old(&store).await, [jobs[0].id.as_str(), &alone.id]);
    assert!(store.delete_experiment(&record).await.unwrap());
    assert_eq!(old(&store).await, [alone.id.as_str()]);
}

#[tokio::test]
async fn a_resume_takes_back_the_pause_of_a_run_that_has_not_left_its_worker() {
    let (_dir, store) = store().await;
    let (record, jobs) = create(&store).await;
    let running = start(&store, &jobs[0]).await;
    store
        .stop_experiment(&record, RequestedAction::Pause)
        .await
        .unwrap();
    let staying = store.resume_experiment(&record).await.unwrap();
    let stands: Vec<_> = staying.iter().map(|job| (&job.id, job.requested)).collect();
    assert_eq!(stands, [(&jobs[0].id, None), (&jobs[1].id, None)]);
    let back = to(&running, &[JobState::Running], JobState::Queued);
    let back = store.transition(back).await.unwrap().unwrap();
    assert_eq!(back.state, JobState::Queued);

    // A cancel is not taken back.
    let running = store.claim().await.unwrap().unwrap();
    store
        .request(&running, RequestedAction::Cancel)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(store.resume_experiment(&record).await.unwrap(), []);
}

#[tokio::test]
async fn the_logs_of_all_jobs_are_read_page_by_page() {
    let (_dir, store) = store().await;
    let (record, jobs) = create(&store).await;
    let other = run(&store).await;
    let mut running = Vec::new();
    for job in &jobs {
        running.push(start(&store, job).await);
    }
    for number in 0..30 {
        // One job tells more than another, and a stranger in between.
        let of: &[&Job] = match number % 3 {
            0 => &[&running[0]],
            1 => &[&running[1], &running[0]],
            _ => &[&other],
        };
        for job in of {
            let told = NewEvent::message(Level::Info, number.to_string());
            let told = store.append(&job.id, job.attempt, vec![told]);
            told.await.unwrap();
        }
    }
    let ids: Vec<_> = jobs.iter().map(|job| job.id.clone()).collect();
    let all = store.all_events_after(&Scope::All, 0, Some(&ids), 1000);
    let mut all = all.await.unwrap();
    all.reverse();
    assert!(all.len() > 30);
    for limit in [1, 7, 1000] {
        let (mut read, mut after) = (Vec::new(), None);
        loop {
            let page = store.experiment_events(&record, after, limit);
            let page = page.await.unwrap();
            assert!(page.data.len() <= limit as usize);
            read.extend(page.data);
            after = read.last().map(|event| event.row);
            if !page.has_more {
                break;
            }
        }
        assert_eq!(read, all);
    }
    let strange = store.events_page(&other, None, 1).await.unwrap().data[0].row;
    let refused = store.experiment_events(&record, Some(strange), 9).await;
    assert!(matches!(refused, Err(StoreError::UnknownCursor(_))));
}

#[tokio::test]
async fn an_experiment_goes_with_its_last_job() {
    let (dir, store) = store().await;
    let (record, jobs) = create(&store).await;
    assert!(!store.delete_experiment(&record).await.unwrap());
    store
        .stop_experiment(&record, RequestedAction::Cancel)
        .await
        .unwrap();
    assert!(store.delete_job(&jobs[0]).await.unwrap());
    store.close().await.unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    assert!(
        store
            .experiment(&Scope::All, &record.id)
            .await
            .unwrap()
            .is_some()
    );
    assert!(store.delete_job(&jobs[1]).await.unwrap());
    assert_eq!(
        store.experiment(&Scope::All, &record.id).await.unwrap(),
        None
    );

    let (record, _) = create(&store).await;
    store
        .stop_experiment(&record, RequestedAction::Cancel)
        .await
        .unwrap();
    assert!(store.delete_experiment(&record).await.unwrap());
    assert!(!store.delete_experiment(&record).await.unwrap());
}
