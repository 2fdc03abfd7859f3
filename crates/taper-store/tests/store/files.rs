use std::{fs, os::unix::fs::PermissionsExt};

use taper_core::{JobState, Project};
use taper_store::{FileFilter, FileRecord, NewFile, Order, Scope, Store, StoreError, UploadState};

use crate::{create, file_path, new_upload, spec, startup::with_database, store, to, upload};

fn names(dir: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join("files")).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn filter(limit: u32) -> FileFilter {
    FileFilter {
        purpose: None,
        after: None,
        limit,
        order: Order::Desc,
    }
}

#[tokio::test]
async fn what_has_expired_goes_unless_a_job_needs_it() {
    let (_dir, store) = store().await;
    let mut files = Vec::new();
    for expires_after in [Some(0), Some(0), Some(3600), None] {
        let mut upload = store.begin_upload().await.unwrap();
        upload.write(b"{}").await.unwrap();
        let new = NewFile {
            expires_after,
            ..NewFile::new("rows.jsonl", "fine-tune")
        };
        files.push(upload.finish(new).await.unwrap());
    }
    let job = store.create_job(spec(&files[1])).await.unwrap();
    store.expire().await.unwrap();
    let is_there = async |file: &FileRecord| {
        let known = store.file(&Scope::All, &file.id).await.unwrap().is_some();
        assert_eq!(file_path(&store, &file.id).await.exists(), known);
        known
    };
    let mut found = Vec::new();
    for file in &files {
        found.push(is_there(file).await);
    }
    assert_eq!(found, [false, true, true, true]);
    let end = to(&job, &[JobState::ValidatingFiles], JobState::Cancelled);
    store.transition(end).await.unwrap().unwrap();
    store.expire().await.unwrap();
    assert!(!is_there(&files[1]).await);
}

#[tokio::test]
async fn an_upload_that_has_ended_is_forgotten_when_nobody_asks_for_it_any_more() {
    let (dir, store) = store().await;
    let new = new_upload(Project::default(), 9);
    let upload = store.create_upload(new, None).await.unwrap();
    store.cancel_upload(&upload).await.unwrap();
    let is_known = async || {
        store.expire().await.unwrap();
        let known = store.upload(&Scope::All, &upload.id).await.unwrap();
        known.is_some()
    };
    assert!(is_known().await);
    with_database(dir.path(), "update uploads set expires_at = 1").await;
    assert!(!is_known().await);
}

#[tokio::test]
async fn a_file_that_is_gone_from_the_disk_can_be_deleted() {
    let (_dir, store) = store().await;
    let file = upload(&store, b"{}").await;
    fs::remove_file(file_path(&store, &file.id).await).unwrap();
    assert!(store.delete_file(&Scope::All, &file.id).await.unwrap());
    assert!(!store.delete_file(&Scope::All, &file.id).await.unwrap());
}

#[tokio::test]
async fn what_is_committed_is_done_though_its_files_cannot_be_removed() {
    let (dir, store) = store().await;
    let file = upload(&store, b"{}").await;
    let new = new_upload(Project::default(), 2);
    let chunked = store.create_upload(new, None).await.unwrap();
    let mut part = store.begin_part().await.unwrap();
    part.write(b"{}").await.unwrap();
    part.finish_part(&chunked, None).await.unwrap();
    let aside = dir.path().join("aside");
    fs::rename(dir.path().join("files"), &aside).unwrap();
    // Whatever is looked for under a file is an error.
    fs::write(dir.path().join("files"), "").unwrap();
    assert!(store.delete_file(&Scope::All, &file.id).await.unwrap());
    let cancelled = store.cancel_upload(&chunked).await.unwrap();
    assert_eq!(cancelled.state, UploadState::Cancelled);
    fs::remove_file(dir.path().join("files")).unwrap();
    fs::rename(&aside, dir.path().join("files")).unwrap();
    assert_eq!(names(dir.path()).len(), 2);
    store.close().await.unwrap();
    Store::open(dir.path()).await.unwrap();
    assert!(names(dir.path()).is_empty());
}

#[tokio::test]
async fn an_upload_is_kept_whole_and_private() {
    let (dir, store) = store().await;
    let file = upload(&store, b"hello world").await;
    assert_eq!(
        file.sha256,
        "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
    );
    assert_eq!((file.bytes, file.filename.as_str()), (11, "rows.jsonl"));
    assert_eq!(
        store.file(&Scope::All, &file.id).await.unwrap().as_ref(),
        Some(&file)
    );
    let path = file_path(&store, &file.id).await;
    assert_eq!(fs::read(&path).unwrap(), b"hello world");
    for (path, mode) in [
        (path.as_path(), 0o600),
        (&dir.path().join("files"), 0o700),
        (&dir.path().join("taper.db"), 0o600),
        (&dir.path().join("taper.db-wal"), 0o600),
    ] {
        let found = fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{}", path.display());
    }
}

#[tokio::test]
async fn an_upload_dropped_half_way_leaves_nothing() {
    let (dir, store) = store().await;
    let mut upload = store.begin_upload().await.unwrap();
    upload.write(b"half").await.unwrap();
    assert_eq!(names(dir.path()).len(), 1);
    drop(upload);
    assert!(names(dir.path()).is_empty());
    let page = store.files(&Scope::All, &filter(10)).await.unwrap();
    assert!(page.data.is_empty());
}

#[tokio::test]
async fn files_are_listed_by_page_although_their_times_are_equal() {
    let (dir, store) = store().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(upload(&store, b"x").await.id);
    }
    let table = dir.path().join("table.csv");
    fs::write(&table, "step\n").unwrap();
    let project = Project::default();
    let result = store.keep_result_file(&project, "step_metrics.csv", &table);
    let result = result.await.unwrap();
    assert_eq!(
        fs::read(file_path(&store, &result.id).await).unwrap(),
        b"step\n"
    );
    // It becomes known with the end of its job.
    assert_eq!(store.file(&Scope::All, &result.id).await.unwrap(), None);
    for order in [Order::Asc, Order::Desc] {
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let filter = FileFilter {
                purpose: Some("fine-tune".to_owned()),
                after: after.clone(),
                order,
                ..filter(2)
            };
            let page = store.files(&Scope::All, &filter).await.unwrap();
            seen.extend(page.data.into_iter().map(|file| file.id));
            after = seen.last().cloned();
            if !page.has_more {
                break;
            }
        }
        let mut expected = ids.clone();
        if order == Order::Desc {
            expected.reverse();
        }
        assert_eq!(seen, expected);
    }
    let unknown = FileFilter {
        after: Some("file-none".to_owned()),
        ..filter(2)
    };
    assert!(matches!(
        store.files(&Scope::All, &unknown).await,
        Err(StoreError::UnknownCursor(id)) if id == "file-none"
    ));
}

#[tokio::test]
async fn a_file_is_deleted_only_when_no_open_job_names_it() {
    let (dir, store) = store().await;
    let job = create(&store).await;
    let file = job.spec.training_file.clone();
    match store.delete_file(&Scope::All, &file).await {
        Err(StoreError::FileInUse { file: f, job: j }) => {
            assert_eq!((f, j), (file.clone(), job.id.clone()))
        }
        other => panic!("{other:?}"),
    }
    let cancel = to(&job, &[JobState::ValidatingFiles], JobState::Cancelled);
    store.transition(cancel).await.unwrap().unwrap();
    assert!(store.delete_file(&Scope::All, &file).await.unwrap());
    assert!(!store.delete_file(&Scope::All, &file).await.unwrap());
    assert!(names(dir.path()).is_empty());
    assert_eq!(store.file(&Scope::All, &file).await.unwrap(), None);
    match store.create_job(job.spec).await {
        Err(StoreError::UnknownFile(id)) => assert_eq!(id, file),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_refusal_leaves_its_neighbours_in_the_same_commit_alone() {
    let (_dir, store) = store().await;
    let file = upload(&store, b"x").await;
    let good = spec(&file);
    let mut bad = good.clone();
    bad.training_file = "file-none".to_owned();
    let tasks: Vec<_> = (0..60)
        .map(|i| {
            let (store, spec) = (
                store.clone(),
                if i % 3 == 0 {
                    bad.clone()
                } else {
                    good.clone()
                },
            );
            tokio::spawn(async move { store.create_job(spec).await.is_ok() })
        })
        .collect();
    for (i, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await.unwrap(), i % 3 != 0);
    }
    let page = store
        .jobs(
            &Scope::All,
            &taper_store::JobFilter {
                limit: 100,
                ..Default::default()
            },
        )
        .await
        .unwrap();
    assert_eq!(page.data.len(), 40);
}
