//! Backups of a data directory, also of one that a server is using. A backup is a data directory itself: a consistent copy of the
//! database, and of every file, checkpoint and result that this copy names, each checked while it is copied.

mod copy;
mod items;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use self::items::Found;
use crate::{
    StoreError,
    layout::{self, Layout, sync_dir},
    startup,
    store::blocking,
};

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
    let source = Layout::of(data_dir);
    let mut live = open_to_read(&source).await?;
    let half_done = new_folder(to)?;
    let target = Layout::create(&half_done)?;
    copy_database(&mut live, &target.database_path()).await?;
    let copied = copy_items(&source, &target, extent, Some(&mut live)).await?;
    live.close().await?;
    publish(half_done, to.to_owned()).await?;
    Ok(copied)
}

/// Makes a data directory out of a backup. A server that starts on it puts jobs that were running back into the queue.
///
/// # Errors
/// [`StoreError::Exists`] when `data_dir` is there and not empty; damage of the backup's database.
pub async fn restore(backup: &Path, data_dir: &Path) -> Result<Copied, StoreError> {
    let source = Layout::of(backup);
    let mut kept = open_to_read(&source).await?;
    startup::check_known(&mut kept).await?;
    let half_done = new_folder(data_dir)?;
    let target = Layout::create(&half_done)?;
    copy_database(&mut kept, &target.database_path()).await?;
    kept.close().await?;
    let copied = copy_items(&source, &target, Extent::Everything, None).await?;
    publish(half_done, data_dir.to_owned()).await?;
    Ok(copied)
}

/// Writes a consistent copy of an open database, which appears under its name when it is whole and checked.
pub(crate) async fn copy_database(
    connection: &mut SqliteConnection,
    to: &Path,
) -> Result<(), StoreError> {
    let half_done = with_ending(to, "tmp");
    layout::remove(&half_done).map_err(StoreError::io("cannot begin a backup"))?;
    sqlx::query("vacuum into ?")
        .bind(half_done.to_string_lossy().into_owned())
        .execute(connection)
        .await?;
    let mut copy = open_copy(&half_done).await?;
    startup::check_pages(&mut copy, &half_done).await??;
    copy.close().await?;
    let to = to.to_owned();
    blocking("cannot keep a backup", move || {
        fs::File::open(&half_done)?.sync_all()?;
        fs::rename(&half_done, &to)?;
        sync_dir(to.parent().unwrap_or(Path::new(".")))
    })
    .await
}

/// Copies what the copied database names, and makes it forget what could not be copied. What a server has deleted meanwhile is
/// no damage.
async fn copy_items(
    source: &Layout,
    target: &Layout,
    extent: Extent,
    mut live: Option<&mut SqliteConnection>,
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
        let Found::Whole(bytes) = found else {
            items::forget(&mut database, &item).await?;
            let wanted = match live.as_deref_mut() {
                _ if extent == Extent::Database => false,
                Some(live) => items::is_known(live, &item).await?,
                None => true,
            };
            if wanted {
                copied.damaged.push(item.to_string());
            }
            continue;
        };
        copied.items += 1;
        copied.bytes += bytes;
    }
    copied.bytes += target.database_bytes();
    database.close().await?;
    Ok(copied)
}

/// Connects to a database that a server may have open.
///
/// # Errors
/// [`StoreError::NoDatabase`]
pub(crate) async fn connect_to_read(layout: &Layout) -> Result<SqliteConnection, StoreError> {
    let path = layout.database_path();
    if !path.is_file() {
        return Err(StoreError::NoDatabase(path));
    }
    let options = SqliteConnectOptions::new().filename(&path).read_only(true);
    let opened = options.disable_statement_logging().connect().await;
    opened.map_err(|error| startup::corrupt(&path, error))
}

/// As [`connect_to_read`], and looks at every page.
pub(crate) async fn open_to_read(layout: &Layout) -> Result<SqliteConnection, StoreError> {
    let path = layout.database_path();
    let mut connection = connect_to_read(layout).await?;
    let checked = startup::check_pages(&mut connection, &path).await;
    checked.map_err(|error| startup::corrupt(&path, error))??;
    Ok(connection)
}

/// Opens a database that nobody else has, so that it needs no log.
async fn open_copy(path: &Path) -> Result<SqliteConnection, StoreError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .foreign_keys(true)
        .disable_statement_logging();
    Ok(options.connect().await?)
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
    layout::remove(&half_done).map_err(cannot())?;
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

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    // Of `backup/` and `backup` the same.
    let mut name = path.components().as_path().as_os_str().to_owned();
    name.push(format!(".{ending}"));
    name.into()
}
