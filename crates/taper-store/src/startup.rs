//! Opens the store, and removes what an earlier server left half done.

use std::{
    collections::HashSet,
    path::Path,
    sync::{Arc, Mutex},
};

use sqlx::{Row, SqliteConnection, sqlite::SqlitePoolOptions};
use tokio::sync::broadcast;

use crate::{
    counters::Counters,
    data_dir::DataDir,
    database,
    error::StoreError,
    filesystem,
    ground::blocking,
    keys::seen::SeenKeys,
    limits::Limits,
    objects::{DiskObjects, ObjectKey, ObjectStore},
    space,
    store::{Inner, Store},
    writer::Writer,
};

const READERS: u32 = 4;
/// Events that a slow subscriber may lag behind before it has to read the database.
const WAITING_EVENTS: usize = 4096;

impl Store {
    /// Opens the data directory, making what is missing, and sweeps what an earlier server left half done.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another server has it open; whatever makes the database unfit for use, before anything changes.
    pub async fn open(data_dir: &Path) -> Result<Self, StoreError> {
        Self::open_within(data_dir, Limits::default()).await
    }

    /// Opens the data directory as [`Store::open`] does, and keeps within `limits`.
    ///
    /// # Errors
    /// Those of [`Store::open`]. Too little space is none: what there is can be read and deleted.
    pub async fn open_within(root: &Path, limits: Limits) -> Result<Self, StoreError> {
        let data_dir = DataDir::create(root)?;
        let lock = data_dir.lock()?;
        space::make_room(&data_dir)?;
        let objects: Arc<dyn ObjectStore> = Arc::new(DiskObjects::new(root));
        let options = database::connect_options(&data_dir.database()?);
        let mut opened = database::open(&data_dir, &options).await?;
        sweep(&data_dir, &*objects, &mut opened.connection).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options.clone().pragma("query_only", "on"))
            .await?;
        let (events, _) = broadcast::channel(WAITING_EVENTS);
        let counters = Arc::new(Counters::default());
        let writer = Writer::start(options, opened, events.clone(), counters.clone());
        let store = Self::from_inner(Arc::new(Inner {
            data_dir,
            objects,
            writer,
            readers,
            events,
            limits,
            shortage: Mutex::new(None),
            counters,
            keys: SeenKeys::default(),
            lock,
        }));
        store.look_at_disk().await?;
        space::start_watching(store.inner());
        Ok(store)
    }
}

const CANNOT_SWEEP: &str = "cannot sweep the data directory";

/// Removes what no row names. Ended jobs have been swept when they ended.
async fn sweep(
    data_dir: &DataDir,
    objects: &dyn ObjectStore,
    connection: &mut SqliteConnection,
) -> Result<(), StoreError> {
    let files: HashSet<String> =
        sqlx::query_scalar("select id from files union all select id from upload_parts")
            .fetch_all(&mut *connection)
            .await?
            .into_iter()
            .collect();
    sweep_below(objects, &ObjectKey::files(), |name| !files.contains(name)).await?;
    let runs = data_dir.known_runs();
    let mut jobs: HashSet<String> = runs
        .map_err(StoreError::io(CANNOT_SWEEP))?
        .into_iter()
        .collect();
    let kept = list(objects, &ObjectKey::jobs()).await?;
    jobs.extend(kept.iter().map(|key| key.name().to_owned()));
    for job in jobs {
        sweep_job(data_dir, objects, connection, &job).await?;
    }
    Ok(())
}

async fn sweep_job(
    data_dir: &DataDir,
    objects: &dyn ObjectStore,
    connection: &mut SqliteConnection,
    job: &str,
) -> Result<(), StoreError> {
    let known = sqlx::query(
        "select row, state = 'succeeded' as output, exists (select 1 from checkpoints where job = jobs.row) as checkpoints,
            state in ('validating_files', 'queued', 'running', 'paused') as is_open
         from jobs where id = ?",
    )
    .bind(job)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(known) = known else {
        delete(objects, &ObjectKey::job(job)).await?;
        return remove_run_dir(data_dir, job).await;
    };
    // A run writes its output anew: nothing can go on from one that did not become known.
    if !known.try_get::<bool, _>("output")? {
        delete(objects, &ObjectKey::output(job)).await?;
    }
    if !known.try_get::<bool, _>("checkpoints")? {
        delete(objects, &ObjectKey::checkpoints(job)).await?;
    }
    if !known.try_get::<bool, _>("is_open")? {
        return Ok(());
    }
    let folders: Vec<String> = sqlx::query_scalar("select folder from checkpoints where job = ?")
        .bind(known.try_get::<i64, _>("row")?)
        .fetch_all(connection)
        .await?;
    sweep_below(objects, &ObjectKey::checkpoints(job), |name| {
        !folders.iter().any(|folder| folder == name)
    })
    .await?;
    let swept = data_dir.sweep_run(job);
    swept.map_err(StoreError::io(CANNOT_SWEEP))
}

/// Deletes what lies directly below a prefix and is to go by its name.
async fn sweep_below(
    objects: &dyn ObjectStore,
    prefix: &ObjectKey,
    goes: impl Fn(&str) -> bool,
) -> Result<(), StoreError> {
    for key in list(objects, prefix).await? {
        if goes(key.name()) {
            tracing::info!(%key, "removing a leftover");
            delete(objects, &key).await?;
        }
    }
    Ok(())
}

async fn list(objects: &dyn ObjectStore, prefix: &ObjectKey) -> Result<Vec<ObjectKey>, StoreError> {
    objects
        .list(prefix)
        .await
        .map_err(StoreError::io(CANNOT_SWEEP))
}

async fn delete(objects: &dyn ObjectStore, key: &ObjectKey) -> Result<(), StoreError> {
    objects
        .delete(key)
        .await
        .map_err(StoreError::io(CANNOT_SWEEP))
}

async fn remove_run_dir(data_dir: &DataDir, job: &str) -> Result<(), StoreError> {
    let dir = data_dir.run_dir(job);
    blocking(CANNOT_SWEEP, move || filesystem::remove(&dir)).await
}
