//! Keys made from outside, sessions, and what is seen through them.

use std::time::Duration;

use serde_json::json;
use taper_core::{JobSpec, JobState, Project, Role};
use taper_store::{
    FileFilter, FileRecord, Job, JobFilter, KeyRing, NewFile, NewJob, Order, Scope, Store,
    StoreError, known_keys,
};

use crate::{new_upload, store, to};

fn of(project: &str) -> Scope {
    Scope::Project(Project::parse(project).unwrap())
}

async fn upload(store: &Store, scope: &Scope) -> FileRecord {
    let mut upload = store.begin_upload().await.unwrap();
    upload.write(b"{}").await.unwrap();
    let new = NewFile {
        project: scope.home(),
        ..NewFile::new("rows.jsonl", "fine-tune")
    };
    upload.finish(new).await.unwrap()
}

async fn submit(store: &Store, scope: &Scope, file: &FileRecord) -> Result<Job, StoreError> {
    let spec = JobSpec::parse(&json!({"model": "base", "training_file": file.id})).unwrap();
    let new = NewJob {
        project: scope.home(),
        ..NewJob::from(spec)
    };
    store.create_job(new).await
}

#[tokio::test]
async fn a_running_store_takes_keys_at_once_and_drops_them_at_once() {
    let (dir, store) = store().await;
    assert!(!store.has_keys().await.unwrap());
    let mut ring = KeyRing::open(dir.path()).await.unwrap();
    let (made, text) = ring.create(Role::Submit, of("a"), "ci").await.unwrap();
    assert!(store.has_keys().await.unwrap());
    let found = store.key(&text).await.unwrap().unwrap();
    assert_eq!((found.role, &found.scope), (Role::Submit, &of("a")));
    assert_eq!(found, made);

    let (id, secret) = text
        .strip_prefix("taper-")
        .unwrap()
        .split_once('-')
        .unwrap();
    assert_eq!((id, secret.len()), (made.id.as_str(), 64));
    let wrong = format!("taper-{id}-{}", "0".repeat(64));
    let (other, unknown) = (text.to_uppercase(), text.replace(id, "000000000000"));
    for shown in [
        "",
        id,
        secret,
        &wrong,
        &other,
        &unknown,
        &format!("{text} "),
    ] {
        assert_eq!(store.key(shown).await.unwrap(), None, "{shown}");
    }

    assert!(ring.revoke(&made.id).await.unwrap());
    assert_eq!(store.key(&text).await.unwrap(), None);
    assert!(!ring.revoke(&made.id).await.unwrap());
    assert!(!ring.revoke("none").await.unwrap());
    ring.close().await.unwrap();
    // A server that has had a key is never open again.
    assert!(store.has_keys().await.unwrap());
    let known = known_keys(dir.path()).await.unwrap();
    assert!(known.len() == 1 && known[0].revoked_at.is_some());
    let database = std::fs::read(dir.path().join("taper.db")).unwrap();
    let log = std::fs::read(dir.path().join("taper.db-wal")).unwrap();
    for bytes in [database, log] {
        assert!(!String::from_utf8_lossy(&bytes).contains(secret));
    }
}

#[tokio::test]
async fn the_last_use_of_a_key_is_noted() {
    let (dir, store) = store().await;
    let mut ring = KeyRing::open(dir.path()).await.unwrap();
    let (_, text) = ring.create(Role::Read, of("a"), "").await.unwrap();
    assert_eq!(known_keys(dir.path()).await.unwrap()[0].last_used_at, None);
    store.key(&text).await.unwrap().unwrap();
    // The request does not wait for it.
    let noted = async {
        while known_keys(dir.path()).await.unwrap()[0]
            .last_used_at
            .is_none()
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), noted)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_key_can_be_made_before_the_first_server() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    assert_eq!(known_keys(&data).await.unwrap(), []);
    let mut ring = KeyRing::open(&data).await.unwrap();
    let (_, text) = ring.create(Role::Admin, Scope::All, "").await.unwrap();
    ring.close().await.unwrap();
    let store = Store::open(&data).await.unwrap();
    assert!(store.key(&text).await.unwrap().is_some());
}

#[tokio::test]
async fn keys_and_commits_do_not_keep_each_other_waiting_for_long() {
    let (dir, store) = store().await;
    let file = upload(&store, &Scope::All).await;
    let mut ring = KeyRing::open(dir.path()).await.unwrap();
    let jobs = (0..50).map(|_| submit(&store, &Scope::All, &file));
    let jobs = async {
        for job in jobs {
            job.await.unwrap();
        }
    };
    let keys = async {
        for _ in 0..50 {
            ring.create(Role::Read, of("a"), "").await.unwrap();
        }
    };
    tokio::join!(jobs, keys);
    assert_eq!(known_keys(dir.path()).await.unwrap().len(), 50);
}

#[tokio::test]
async fn a_session_ends_with_its_key() {
    let (dir, store) = store().await;
    let mut ring = KeyRing::open(dir.path()).await.unwrap();
    let (key, _) = ring.create(Role::Read, of("a"), "").await.unwrap();
    let (word, begun) = store.open_session(Some(&key), b"x").await.unwrap();
    let (other, _) = store.open_session(Some(&key), b"x").await.unwrap();
    assert_eq!(store.session(&word, b"y").await.unwrap(), Some(begun));
    assert_eq!(store.session("", b"").await.unwrap(), None);
    store.close_session(&other, b"").await.unwrap();
    assert_eq!(store.session(&other, b"").await.unwrap(), None);
    ring.revoke(&key.id).await.unwrap();
    assert_eq!(store.session(&word, b"x").await.unwrap(), None);

    // One of the environment's key ends when another takes its place.
    let (word, begun) = store.open_session(None, b"first").await.unwrap();
    assert_eq!(store.session(&word, b"first").await.unwrap(), Some(begun));
    assert_eq!(store.session(&word, b"second").await.unwrap(), None);
    assert_eq!(store.session(&word, b"").await.unwrap(), None);
}

#[tokio::test]
async fn a_scope_shows_its_own_things_alone() {
    let (_dir, store) = store().await;
    let (a, b) = (of("a"), of("b"));
    let file = upload(&store, &a).await;
    let job = submit(&store, &a, &file).await.unwrap();
    assert_eq!(job.project, a.home());
    let refused = submit(&store, &b, &file).await;
    assert!(
        matches!(refused, Err(StoreError::UnknownFile(_))),
        "{refused:?}"
    );
    let new = new_upload(a.home(), 2);
    let upload = store.create_upload(new, None).await.unwrap();
    let ended = to(&job, &[JobState::ValidatingFiles], JobState::Cancelled);
    store.transition(ended).await.unwrap().unwrap();
    let filter = FileFilter {
        purpose: None,
        after: None,
        limit: 10,
        order: Order::Desc,
    };
    for (scope, seen) in [(&a, true), (&Scope::All, true), (&b, false)] {
        assert_eq!(store.file(scope, &file.id).await.unwrap().is_some(), seen);
        assert_eq!(store.job(scope, &job.id).await.unwrap().is_some(), seen);
        assert_eq!(
            store.upload(scope, &upload.id).await.unwrap().is_some(),
            seen
        );
        let files = store.files(scope, &filter).await.unwrap();
        assert_eq!(files.data.len(), usize::from(seen));
        let all = JobFilter {
            limit: 10,
            ..JobFilter::default()
        };
        let jobs = store.jobs(scope, &all).await.unwrap();
        assert_eq!(jobs.data.len(), usize::from(seen));
        let events = store.all_events_after(scope, 0, None, 10).await.unwrap();
        assert_eq!(events.len(), 2 * usize::from(seen));
        let after = JobFilter {
            after: Some(job.id.clone()),
            ..all
        };
        assert_eq!(store.jobs(scope, &after).await.is_ok(), seen);
    }
    assert!(!store.delete_file(&b, &file.id).await.unwrap());
    assert!(store.delete_file(&a, &file.id).await.unwrap());
}

#[tokio::test]
async fn live_events_of_other_projects_are_not_heard() {
    let (_dir, store) = store().await;
    let (a, b) = (of("a"), of("b"));
    let (mut of_a, mut of_all) = (store.subscribe(&a), store.subscribe(&Scope::All));
    let other = submit(&store, &b, &upload(&store, &b).await).await.unwrap();
    let own = submit(&store, &a, &upload(&store, &a).await).await.unwrap();
    assert_eq!(of_a.recv().await.unwrap().job_id, own.id);
    assert_eq!(of_all.recv().await.unwrap().job_id, other.id);
}
