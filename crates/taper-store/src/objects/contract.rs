//! What every object store must hold.

use tokio::io::AsyncReadExt;

use super::{key::ObjectKey, object_store::ObjectStore};

async fn read(objects: &dyn ObjectStore, key: &ObjectKey, start: u64, end: u64) -> (u64, String) {
    let mut object = objects.open(key, start..end).await.unwrap();
    let mut text = String::new();
    object.reader.read_to_string(&mut text).await.unwrap();
    (object.bytes, text)
}

async fn put(objects: &dyn ObjectStore, key: &ObjectKey, text: &str) {
    let mut staged = objects.stage(key).await.unwrap();
    staged.write(text.as_bytes()).await.unwrap();
    objects.put(staged).await.unwrap();
}

/// `objects` must be empty, and have a place for files.
pub(super) async fn check(objects: &dyn ObjectStore) {
    let (one, other) = (ObjectKey::file("one"), ObjectKey::file("other"));
    drop(objects.stage(&one).await.unwrap());
    assert_eq!(objects.list(&ObjectKey::files()).await.unwrap(), []);
    put(objects, &one, "abcdef").await;
    put(objects, &other, "").await;

    assert_eq!(read(objects, &one, 0, 6).await, (6, "abcdef".to_owned()));
    assert_eq!(read(objects, &one, 2, 4).await, (6, "cd".to_owned()));
    assert_eq!(read(objects, &one, 4, u64::MAX).await, (6, "ef".to_owned()));
    assert_eq!(read(objects, &other, 0, 0).await, (0, String::new()));
    assert!(objects.open(&ObjectKey::files(), 0..1).await.is_err());
    let local = objects.local(&one).await.unwrap();
    assert_eq!(tokio::fs::read(local).await.unwrap(), b"abcdef");

    let mut found = objects.list(&ObjectKey::files()).await.unwrap();
    found.sort();
    assert_eq!(found, [one.clone(), other.clone()]);
    objects.delete(&one).await.unwrap();
    objects.delete(&one).await.unwrap();
    assert!(objects.open(&one, 0..6).await.is_err());
    assert_eq!(objects.list(&ObjectKey::files()).await.unwrap(), [other]);
    objects.delete(&ObjectKey::files()).await.unwrap();
    assert_eq!(objects.list(&ObjectKey::files()).await.unwrap(), []);
}

/// `objects` must be empty; `folder` is where the run of `job` works.
pub(super) async fn check_folder(objects: &dyn ObjectStore, job: &str, folder: &std::path::Path) {
    let prefix = ObjectKey::checkpoint(job, "step-1");
    let dir = folder.join("checkpoints/step-1");
    tokio::fs::create_dir_all(dir.join("inner")).await.unwrap();
    tokio::fs::write(dir.join("inner/state"), "state")
        .await
        .unwrap();
    tokio::fs::write(dir.join("weights"), "w").await.unwrap();
    assert_eq!(objects.put_folder(&prefix, &dir).await.unwrap(), 6);
    let names = objects.list(&ObjectKey::checkpoints(job)).await.unwrap();
    assert_eq!(names.as_slice(), std::slice::from_ref(&prefix));
    let (bytes, text) = read(objects, &prefix.join("inner/state"), 0, 9).await;
    assert_eq!((bytes, text.as_str()), (5, "state"));
    let local = objects.local(&prefix).await.unwrap();
    assert_eq!(tokio::fs::read(local.join("weights")).await.unwrap(), b"w");
    objects.delete(&ObjectKey::job(job)).await.unwrap();
    assert_eq!(objects.list(&ObjectKey::jobs()).await.unwrap(), []);
}
