use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sqlx::{Connection, SqliteConnection};

use super::{
    copy,
    items::{self, Found, Item},
};
use crate::{
    StoreError,
    data_dir::DataDir,
    database::{self, copy_database, open_copy, open_to_read, with_ending},
    filesystem::{self, sync_dir},
    ground::blocking,
};

/// Times that a checkpoint may be superseded while it is copied.
const TRIES: u32 = 5;

/// What goes into a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Database, uploads, checkpoints and results.
    Everything,
    /// Jobs, events and curves alone.
    Database,
}

/// What was copied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copied {
    pub jobs: u64,
    /// Uploads, checkpoints and results.
    pub items: u64,
    pub bytes: u64,
    /// What was listed and could not be copied whole; the copy does not list it.
    pub damaged: Vec<String>,
}

/// Copies the data directory to the new folder `to`, which appears when it is whole.
///
/// # Errors
/// [`StoreError::Exists`] when there is something at `to`; damage of the database. Damage of anything else is told in [`Copied`].
pub async fn back_up(data_dir: &Path, to: &Path, extent: Extent) -> Result<Copied, StoreError> {
    let source = DataDir::of(data_dir);
    let mut live = open_to_read(&source).await?;
    let copied = copy_all(&source, to, extent, &mut live).await?;
    live.close().await?;
    Ok(copied)
}

/// Makes a data directory out of a backup. A server that starts on it puts jobs that were running back into the queue.
///
/// # Errors
/// [`StoreError::Exists`] when `data_dir` is there and not empty; damage of the backup's database.
pub async fn restore(backup: &Path, data_dir: &Path) -> Result<Copied, StoreError> {
    let source = DataDir::of(backup);
    let mut kept = open_to_read(&source).await?;
    database::check_known(&mut kept).await?;
    let copied = copy_all(&source, data_dir, Extent::Everything, &mut kept).await?;
    kept.close().await?;
    Ok(copied)
}

/// Makes the folder `to`, or nothing.
async fn copy_all(
    source: &DataDir,
    to: &Path,
    extent: Extent,
    database: &mut SqliteConnection,
) -> Result<Copied, StoreError> {
    let half_done = new_folder(to)?;
    let copying = async {
        let target = DataDir::create(&half_done)?;
        copy_database(database, &target.database_path()).await?;
        let copied = copy_items(source, &target, extent, database).await?;
        publish(half_done.clone(), to.to_owned()).await?;
        Ok(copied)
    };
    let copied = copying.await;
    if copied.is_err() {
        // The first error is the one to tell.
        drop(filesystem::remove(&half_done));
    }
    copied
}

/// Copies what the copied database names, and makes it forget what could not be copied. What a server has deleted meanwhile is
/// no damage, as the `live` database tells.
async fn copy_items(
    source: &DataDir,
    target: &DataDir,
    extent: Extent,
    live: &mut SqliteConnection,
) -> Result<Copied, StoreError> {
    let mut database = open_copy(&target.database_path()).await?;
    items::forget_unfinished(&mut database).await?;
    let mut copied = Copied {
        jobs: items::count_jobs(&mut database).await?,
        ..Copied::default()
    };
    for item in items::all(&mut database).await? {
        let found = match extent {
            Extent::Everything => copy::item(item.clone(), source, target).await?,
            Extent::Database => Found::Missing,
        };
        if !matches!(found, Found::Whole(_)) {
            items::forget(&mut database, &item).await?;
        }
        let bytes = match found {
            Found::Whole(bytes) => Some(bytes),
            _ if extent == Extent::Database => None,
            _ if items::is_known(live, &item).await? => {
                copied.damaged.push(item.to_string());
                None
            }
            _ => copy_newer(&item, source, target, &mut database, live).await?,
        };
        copied.items += u64::from(bytes.is_some());
        copied.bytes += bytes.unwrap_or(0);
    }
    copied.bytes += target.database_bytes();
    database.close().await?;
    Ok(copied)
}

/// Copies, in the place of a checkpoint that is superseded by now, the newest of its job: one that only had older ones would begin again.
/// Gives its size, or `None` when there is none or it is listed anyway.
async fn copy_newer(
    item: &Item,
    source: &DataDir,
    target: &DataDir,
    database: &mut SqliteConnection,
    live: &mut SqliteConnection,
) -> Result<Option<u64>, StoreError> {
    for _ in 0..TRIES {
        let Some((newest, row)) = items::newest_beside(live, item).await? else {
            return Ok(None);
        };
        if items::is_known(database, &newest).await? {
            return Ok(None);
        }
        if let Found::Whole(bytes) = copy::item(newest.clone(), source, target).await? {
            items::adopt(database, live, &newest, &row).await?;
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// A new folder beside `to`, which must not be there, or be empty.
fn new_folder(to: &Path) -> Result<PathBuf, StoreError> {
    let cannot = || StoreError::io(format!("cannot write to {}", to.display()));
    match fs::read_dir(to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(cannot()(error)),
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(StoreError::Exists(to.to_owned()));
            }
        }
    }
    let half_done = with_ending(to, "tmp");
    filesystem::remove(&half_done).map_err(cannot())?;
    Ok(half_done)
}

async fn publish(half_done: PathBuf, to: PathBuf) -> Result<(), StoreError> {
    blocking("cannot keep a copy", move || {
        for dir in [
            half_done.join("files"),
            half_done.join("jobs"),
            half_done.clone(),
        ] {
            sync_dir(&dir)?;
        }
        // An empty folder at the goal gives way to the whole one.
        fs::rename(&half_done, &to)?;
        let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_dir(parent.unwrap_or(Path::new(".")))
    })
    .await
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use taper_core::{CheckpointFiles, JobSpec, JobState, Level, Metrics, RunEvent};

    use super::*;
    use crate::{Change, CurveQuery, Job, NewFile, Store, Transition};

    async fn running(store: &Store) -> Job {
        let upload = store.begin_upload().await.unwrap();
        let file = upload.finish(NewFile::new("rows.jsonl", "fine-tune"));
        let body = json!({"model": "base", "training_file": file.await.unwrap().id});
        let job = store.create_job(JobSpec::parse(&body).unwrap()).await;
        let queued = Transition {
            job: job.unwrap().id,
            from: &[JobState::ValidatingFiles],
            attempt: None,
            to: JobState::Queued,
            level: Level::Info,
            message: String::new(),
            change: Change::default(),
        };
        store.transition(queued).await.unwrap();
        store.claim().await.unwrap().unwrap()
    }

    async fn tell(store: &Store, job: &Job, steps: &[u64]) {
        let figures = |step| Metrics::from([("step", step as f64), ("train_loss", 0.5)]);
        let events = steps
            .iter()
            .map(|step| RunEvent::Step(figures(*step)).into());
        let told = store.append(&job.id, 1, events.collect());
        told.await.unwrap();
    }

    async fn publish_at(store: &Store, job: &Job, step: u64, superseded: Vec<u64>) {
        let dir = store
            .run_dir(&job.id)
            .join(format!("checkpoints/step-{step:08}"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(taper_core::CHECKPOINT_MANIFEST), "{}").unwrap();
        let files = CheckpointFiles {
            step,
            dir,
            metrics: Metrics::new(),
            superseded,
        };
        let published = store.publish_checkpoint(&job.id, 1, files);
        published.await.unwrap();
    }

    #[tokio::test]
    async fn a_checkpoint_that_is_superseded_meanwhile_gives_way_to_the_newest() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = Store::open(from.path()).await.unwrap();
        let job = running(&store).await;
        tell(&store, &job, &[1, 2]).await;
        publish_at(&store, &job, 2, vec![]).await;
        let (source, target) = (
            DataDir::of(from.path()),
            DataDir::create(to.path()).unwrap(),
        );
        let mut live = open_to_read(&source).await.unwrap();
        let copy = target.database_path();
        copy_database(&mut live, &copy).await.unwrap();
        tell(&store, &job, &[3, 4]).await;
        publish_at(&store, &job, 4, vec![2]).await;
        tell(&store, &job, &[5]).await;
        let copied = copy_items(&source, &target, Extent::Everything, &mut live);
        let copied = copied.await.unwrap();
        // With the upload.
        assert_eq!((copied.items, copied.damaged), (2, vec![]));
        let restored = Store::open(to.path()).await.unwrap();
        let kept = restored.checkpoints(&job, None, 9).await.unwrap().data;
        assert_eq!(kept.iter().map(|it| it.step).collect::<Vec<_>>(), [4]);
        assert!(restored.local(&kept[0].key).await.unwrap().is_dir());
        // A run that goes on from it does not tell them again.
        let curves = restored.curves(&job, &CurveQuery::default()).await.unwrap();
        let steps: Vec<_> = curves["train_loss"].iter().map(|(step, _)| *step).collect();
        assert_eq!(steps, [1, 2, 3, 4]);
    }
}
