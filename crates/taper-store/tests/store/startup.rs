//! What a start refuses, and what it leaves untouched.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use sqlx::{Connection, Executor, SqliteConnection, sqlite::SqliteConnectOptions};
use taper_core::JobState;
use taper_store::{Limits, Scope, Shortage, Store, StoreError};

use crate::{create, enqueue, file_path, run, spec, store, upload};

pub(crate) async fn with_database(dir: &Path, statement: &'static str) {
    let options = SqliteConnectOptions::new().filename(dir.join("taper.db"));
    let mut database = SqliteConnection::connect_with(&options).await.unwrap();
    database.execute(statement).await.unwrap();
    database.close().await.unwrap();
}

/// Flips a byte in each of the pages from the second one on.
fn damage(dir: &Path) -> Vec<u8> {
    let path = dir.join("taper.db");
    let mut bytes = fs::read(&path).unwrap();
    for byte in bytes.iter_mut().skip(4096 + 3).step_by(512) {
        *byte ^= 0x5a;
    }
    fs::write(path, &bytes).unwrap();
    bytes
}

#[tokio::test]
async fn a_damaged_database_is_refused_and_left_as_it_is() {
    let (dir, store) = store().await;
    create(&store).await;
    store.close().await.unwrap();
    let damaged = damage(dir.path());
    let error = Store::open(dir.path()).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains("taper restore"), "{error}");
    assert_eq!(fs::read(dir.path().join("taper.db")).unwrap(), damaged);

    fs::write(
        dir.path().join("taper.db"),
        "this is no database at all".repeat(200),
    )
    .unwrap();
    let error = Store::open(dir.path()).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn an_empty_database_beside_files_is_refused_before_they_are_swept() {
    let (dir, store) = store().await;
    let file = upload(&store, b"rows").await;
    let path = file_path(&store, &file.id).await;
    store.close().await.unwrap();
    fs::write(dir.path().join("taper.db"), "").unwrap();
    let error = Store::open(dir.path()).await.unwrap_err();
    assert!(matches!(error, StoreError::Lost(_)), "{error}");
    assert!(path.exists());
}

#[tokio::test]
async fn the_database_of_a_newer_version_is_refused() {
    let (dir, store) = store().await;
    store.close().await.unwrap();
    let newer =
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
        values (9999, 'of the future', true, x'00', 0)";
    with_database(dir.path(), newer).await;
    let error = Store::open(dir.path()).await.unwrap_err();
    assert!(
        matches!(error, StoreError::NewerSchema { found: 9999, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn an_older_database_is_copied_before_it_is_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let old = dir.path().join("taper.db");
    let options = SqliteConnectOptions::new()
        .filename(&old)
        .create_if_missing(true);
    let mut database = SqliteConnection::connect_with(&options).await.unwrap();
    let mut first = sqlx::migrate!("../../migrations");
    first.migrations.to_mut().truncate(1);
    first.run(&mut database).await.unwrap();
    database
        .execute("insert into files values (1, 'file-1', 4, 0, 'a.jsonl', 'fine-tune', 'x')")
        .await
        .unwrap();
    database.close().await.unwrap();

    let store = Store::open(dir.path()).await.unwrap();
    assert!(store.file(&Scope::All, "file-1").await.unwrap().is_some());
    let copy = dir.path().join("taper-before-upgrade-0001.db");
    let options = SqliteConnectOptions::new().filename(&copy).read_only(true);
    let mut copy = SqliteConnection::connect_with(&options).await.unwrap();
    let versions: Vec<i64> = sqlx::query_scalar("select version from _sqlx_migrations")
        .fetch_all(&mut copy)
        .await
        .unwrap();
    assert_eq!(versions, [1]);
}

#[tokio::test]
async fn a_server_that_was_replaced_writes_no_more() {
    let (dir, old) = store().await;
    let file = upload(&old, b"{}").await;
    // What an administrator may do who believes that the lock is stale.
    fs::remove_file(dir.path().join("LOCK")).unwrap();
    let new = Store::open(dir.path()).await.unwrap();
    let refused = old.create_job(spec(&file)).await;
    assert!(matches!(refused, Err(StoreError::Closed)), "{refused:?}");
    let refused = old.ready().await;
    assert!(matches!(refused, Err(StoreError::Closed)), "{refused:?}");
    new.create_job(spec(&file)).await.unwrap();
}

#[tokio::test]
async fn links_and_pipes_in_the_data_directory_are_not_opened() {
    let (dir, store) = store().await;
    let file = upload(&store, b"rows").await;
    store.check_file(&file).await.unwrap();
    let outside = dir.path().join("outside");
    fs::write(&outside, "keys").unwrap();
    let path = file_path(&store, &file.id).await;
    for plant in [
        (|path: &Path, outside: &Path| symlink(outside, path)) as fn(&Path, &Path) -> _,
        |path, _| {
            let made = std::process::Command::new("mkfifo").arg(path).status()?;
            assert!(made.success());
            Ok(())
        },
        |path, _| fs::create_dir(path),
        |path, _| fs::write(path, "row"),
    ] {
        crate::remove(&path);
        plant(&path, &outside).unwrap();
        let refused = store.check_file(&file).await;
        assert!(
            matches!(refused, Err(StoreError::Replaced(_))),
            "{refused:?}"
        );
    }
    store.close().await.unwrap();

    let database = dir.path().join("taper.db");
    fs::rename(&database, dir.path().join("elsewhere.db")).unwrap();
    symlink(dir.path().join("elsewhere.db"), &database).unwrap();
    let refused = Store::open(dir.path()).await;
    assert!(matches!(refused, Err(StoreError::Io { .. })), "{refused:?}");
    assert_eq!(fs::read(outside).unwrap(), b"keys");
}

#[tokio::test]
async fn what_is_kept_can_be_read_by_the_owner_alone() {
    let (dir, store) = store().await;
    upload(&store, b"rows").await;
    let mut looked_at = 0;
    for path in ["", "files", "jobs"] {
        for entry in fs::read_dir(dir.path().join(path)).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            let wanted = if entry.path().is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode, wanted, "{}", entry.path().display());
            looked_at += 1;
        }
    }
    // LOCK, the database with its two companions, two folders and an upload.
    assert_eq!(looked_at, 7);
}

#[tokio::test]
async fn the_log_stays_small_under_many_writes() {
    let (dir, store) = store().await;
    let file = upload(&store, b"{}").await;
    let mut most = 0;
    for _ in 0..20 {
        let jobs = (0..200).map(|_| {
            let (store, spec) = (store.clone(), spec(&file));
            tokio::spawn(async move { store.create_job(spec).await.unwrap() })
        });
        for job in jobs.collect::<Vec<_>>() {
            job.await.unwrap();
        }
        let log = fs::metadata(dir.path().join("taper.db-wal")).unwrap();
        most = most.max(log.len());
    }
    assert!(most < 16 << 20, "the log has grown to {most} bytes");
}

#[tokio::test]
async fn without_space_nothing_new_is_taken_but_all_can_be_read_and_ended() {
    let (dir, store) = store().await;
    let file = upload(&store, b"rows").await;
    let queued = enqueue(&store).await;
    store.close().await.unwrap();
    let limits = Limits {
        min_free_bytes: u64::MAX / 2,
        max_bytes: None,
    };
    let store = Store::open_within(dir.path(), limits).await.unwrap();
    let Some(Shortage::Disk { wanted, .. }) = store.shortage() else {
        panic!("{:?}", store.shortage());
    };
    assert_eq!(wanted, limits.min_free_bytes);
    let refused = store.begin_upload().await.map(drop);
    assert!(
        matches!(refused, Err(StoreError::NoSpace(_))),
        "{refused:?}"
    );
    let refused = store.create_job(spec(&file)).await.map(drop);
    assert!(
        matches!(refused, Err(StoreError::NoSpace(_))),
        "{refused:?}"
    );
    assert_eq!(store.claim().await.unwrap(), None);
    let cancelled = crate::to(&queued, &[JobState::Queued], JobState::Cancelled);
    assert!(store.transition(cancelled).await.unwrap().is_some());
    assert!(store.delete_file(&Scope::All, &file.id).await.unwrap());
}

#[tokio::test]
async fn a_reserve_is_kept_while_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let reserve = dir.path().join("RESERVE");
    let limits = |min_free_bytes| Limits {
        min_free_bytes,
        max_bytes: None,
    };
    let store = Store::open_within(dir.path(), limits(1)).await.unwrap();
    assert_eq!(fs::metadata(&reserve).unwrap().len(), 16 << 20);
    let with = store.space().await.unwrap().free;
    store.close().await.unwrap();
    let store = Store::open_within(dir.path(), limits(u64::MAX / 2))
        .await
        .unwrap();
    assert!(!reserve.exists());
    // What it takes counts as taken also while it is given up, or the shortage would end by it.
    let without = store.space().await.unwrap().free;
    assert!(without.abs_diff(with) < 8 << 20, "{with} {without}");
}

#[tokio::test]
async fn the_quota_counts_what_is_listed_and_ends_when_something_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        min_free_bytes: 0,
        max_bytes: Some(10 << 20),
    };
    let store = Store::open_within(dir.path(), limits).await.unwrap();
    let large = vec![0; 11 << 20];
    let mut uploading = store.begin_upload().await.unwrap();
    uploading.write(&large).await.unwrap();
    let file = uploading
        .finish(taper_store::NewFile::new("rows.jsonl", "fine-tune"))
        .await
        .unwrap();
    let shortage = store.look_at_disk().await.unwrap();
    assert!(
        matches!(shortage, Some(Shortage::Quota { used, most }) if used > most && most == 10 << 20)
    );
    assert!(store.begin_upload().await.is_err());
    store.delete_file(&Scope::All, &file.id).await.unwrap();
    assert_eq!(store.look_at_disk().await.unwrap(), None);
    run(&store).await;
}
