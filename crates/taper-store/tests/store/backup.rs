//! Copies of a data directory, also of one in use.

use std::{fs, os::unix::fs::symlink, path::Path};

use serde_json::json;
use taper_core::{CHECKPOINT_MANIFEST, Control, JobState, Project};
use taper_store::{
    Change, Copied, Extent, Job, JobResult, Scope, Store, StoreError, back_up, restore,
};

use crate::{checkpoint, new_upload, run, store, to, upload};

async fn job(store: &Store, id: &str) -> Job {
    store.job(&Scope::All, id).await.unwrap().unwrap()
}

/// A store with an upload, a running job that has a checkpoint, and a succeeded one with a result.
async fn filled() -> (tempfile::TempDir, Store, [String; 2]) {
    let (dir, store) = store().await;
    let done = run(&store).await;
    let output = store.run_dir(&done.id).join("output/adapter");
    fs::create_dir_all(&output).unwrap();
    fs::write(output.join("adapter_model.safetensors"), vec![7; 1000]).unwrap();
    let result = JobResult {
        fine_tuned_model: "ft:base".to_owned(),
        artifacts: store
            .survey_output(&done.id, &Control::new())
            .await
            .unwrap(),
        ..JobResult::default()
    };
    let mut succeeded = to(&done, &[JobState::Running], JobState::Succeeded);
    succeeded.change = Change {
        result: Some(result),
        ..Change::default()
    };
    store.transition(succeeded).await.unwrap().unwrap();
    let running = run(&store).await;
    let files = checkpoint(&store, &running.id, 2);
    fs::write(files.dir.join("state.json"), "{}").unwrap();
    // The sum of the two bytes above.
    let manifest =
        json!({"state.json": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"});
    fs::write(files.dir.join(CHECKPOINT_MANIFEST), manifest.to_string()).unwrap();
    store
        .publish_checkpoint(&running.id, 1, files)
        .await
        .unwrap();
    (dir, store, [done.id, running.id])
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_backup_of_a_store_in_use_is_a_whole_data_directory() {
    let (dir, store, [done, running]) = filled().await;
    let space = tempfile::tempdir().unwrap();
    let backup = space.path().join("backup");
    let copied = back_up(dir.path(), &backup, Extent::Everything)
        .await
        .unwrap();
    assert_eq!((copied.jobs, copied.items), (2, 4));
    assert_eq!(copied.damaged, Vec::<String>::new());
    assert_eq!(names(space.path()), ["backup"]);
    assert_eq!(names(&backup), ["files", "jobs", "taper.db"]);
    // What comes later is not in it.
    upload(&store, b"later").await;

    let again = space.path().join("again");
    fs::create_dir(&again).unwrap();
    assert_eq!(restore(&backup, &again).await.unwrap(), copied);
    let restored = Store::open(&again).await.unwrap();
    let recovered = restored.recover().await.unwrap();
    assert_eq!(recovered.queued, [running.as_str()]);
    let running = job(&restored, &running).await;
    let checkpoint = restored.checkpoints(&running, None, 1).await.unwrap();
    let checkpoint = &checkpoint.data[0];
    let dir = restored.local(&checkpoint.key).await.unwrap();
    assert!(dir.join("state.json").is_file());
    let done = job(&restored, &done).await;
    let artifact = restored
        .artifact(&done, "adapter/adapter_model.safetensors")
        .await
        .unwrap()
        .unwrap();
    let path = restored.local(&artifact.key(&done)).await.unwrap();
    assert_eq!(fs::metadata(path).unwrap().len(), artifact.bytes);
    assert_eq!(job(&store, &done.id).await, done);
}

#[tokio::test]
async fn a_backup_tells_what_is_damaged_and_does_not_list_it() {
    let (dir, store, [done, running]) = filled().await;
    let output = store.run_dir(&done).join("output/adapter");
    fs::write(output.join("adapter_model.safetensors"), vec![8; 1000]).unwrap();
    let checkpoint = store.run_dir(&running).join("checkpoints/step-00000002");
    fs::write(checkpoint.join("state.json"), "[]").unwrap();
    let space = tempfile::tempdir().unwrap();
    let backup = space.path().join("backup");
    let copied = back_up(dir.path(), &backup, Extent::Everything)
        .await
        .unwrap();
    assert_eq!(copied.items, 2);
    assert_eq!(
        copied.damaged,
        [
            format!("checkpoint step-00000002 of job {running}"),
            format!("adapter/adapter_model.safetensors of job {done}")
        ]
    );
    let restored = Store::open(&backup).await.unwrap();
    let done = job(&restored, &done).await;
    assert_eq!(restored.artifacts(&done).await.unwrap(), []);
    let running = job(&restored, &running).await;
    let checkpoints = restored.checkpoints(&running, None, 1).await.unwrap();
    assert_eq!(checkpoints.data, []);
}

#[tokio::test]
async fn the_database_alone_keeps_jobs_and_events() {
    let (dir, store, [done, _]) = filled().await;
    let space = tempfile::tempdir().unwrap();
    let backup = space.path().join("backup");
    let copied = back_up(dir.path(), &backup, Extent::Database)
        .await
        .unwrap();
    let bytes = fs::metadata(backup.join("taper.db")).unwrap().len();
    let wanted = Copied {
        jobs: 2,
        items: 0,
        bytes,
        damaged: vec![],
    };
    assert_eq!(copied, wanted);
    let done = job(&store, &done).await;
    let events = store.events_after(&done, 0, 100).await.unwrap();
    let kept = Store::open(&backup).await.unwrap();
    assert_eq!(kept.events_after(&done, 0, 100).await.unwrap(), events);
}

#[tokio::test]
async fn nothing_is_written_over_and_nothing_is_made_of_nothing() {
    let (dir, _store, _) = filled().await;
    let space = tempfile::tempdir().unwrap();
    let refused = back_up(dir.path(), dir.path(), Extent::Everything).await;
    assert!(matches!(refused, Err(StoreError::Exists(_))), "{refused:?}");
    let refused = restore(space.path(), &space.path().join("new")).await;
    assert!(
        matches!(refused, Err(StoreError::NoDatabase(_))),
        "{refused:?}"
    );
    assert_eq!(names(space.path()), Vec::<String>::new());
    // A link at the goal is found only at the end.
    let goal = space.path().join("goal");
    symlink(space.path().join("nowhere"), &goal).unwrap();
    let refused = back_up(dir.path(), &goal, Extent::Everything).await;
    assert!(matches!(refused, Err(StoreError::Io { .. })), "{refused:?}");
    assert_eq!(names(space.path()), ["goal"]);
}

#[tokio::test]
async fn an_upload_under_way_stays_with_its_server() {
    let (dir, store, [done, _]) = filled().await;
    let new = new_upload(Project::default(), 9);
    let upload = store.create_upload(new, None).await.unwrap();
    let mut part = store.begin_part().await.unwrap();
    part.write(b"{}").await.unwrap();
    let before = store.space().await.unwrap().used;
    part.finish_part(&upload, None).await.unwrap();
    assert!(store.space().await.unwrap().used >= before + 2);
    let backup = dir.path().join("backup");
    let copied = back_up(dir.path(), &backup, Extent::Everything)
        .await
        .unwrap();
    assert_eq!(copied.damaged, Vec::<String>::new());
    let restored = Store::open(&backup).await.unwrap();
    assert!(
        restored
            .upload(&Scope::All, &upload.id)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        store
            .upload(&Scope::All, &upload.id)
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(restored.tuned_models(&Scope::All).await.unwrap().len(), 1);
    restored.close().await.unwrap();

    // Without its weights the model is none.
    let weights = store
        .run_dir(&done)
        .join("output/adapter/adapter_model.safetensors");
    fs::remove_file(weights).unwrap();
    let backup = dir.path().join("another");
    back_up(dir.path(), &backup, Extent::Everything)
        .await
        .unwrap();
    let restored = Store::open(&backup).await.unwrap();
    assert!(restored.tuned_models(&Scope::All).await.unwrap().is_empty());
}
