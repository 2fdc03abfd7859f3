use std::{
    io,
    path::Path,
    sync::{Arc, PoisonError, Weak},
    time::Duration,
};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::{
    Limits, Shortage, Space, Store, StoreError,
    data_dir::DataDir,
    filesystem::{self, private_new},
    ground::blocking,
    store::Inner,
};

/// The time between two looks at the disk.
const INTERVAL: Duration = Duration::from_secs(1);
/// Bytes kept for the database, so that jobs can be cancelled and deleted on a disk that somebody else has filled.
const RESERVE: u64 = 16 << 20;

impl Store {
    /// Why nothing new may be written, as of a second ago at most.
    pub fn shortage(&self) -> Option<Shortage> {
        let known = self.inner().shortage.lock();
        *known.unwrap_or_else(PoisonError::into_inner)
    }

    /// What the data directory may take.
    pub fn limits(&self) -> Limits {
        self.inner().limits
    }

    /// Looks at the disk now, and frees the reserve or takes it back.
    pub async fn look_at_disk(&self) -> Result<Option<Shortage>, StoreError> {
        let inner = self.inner();
        let was_short = self.shortage().is_some();
        let used = match inner.limits.max_bytes {
            Some(_) => self.used_bytes().await?,
            // Every row would be read for nothing.
            None => 0,
        };
        let free = self.free_bytes().await?;
        let shortage = inner.limits.judge(Space { free, used }, was_short);
        if inner.limits.min_free_bytes > 0 {
            let (path, is_short) = (
                self.data_dir().reserve(),
                matches!(shortage, Some(Shortage::Disk { .. })),
            );
            let kept = blocking("cannot keep the reserve", move || reserve(&path, !is_short));
            if let Err(error) = kept.await {
                tracing::warn!(%error, "without it a full disk keeps jobs from being cancelled and deleted");
            }
        }
        let known = inner.shortage.lock();
        let before = std::mem::replace(
            &mut *known.unwrap_or_else(PoisonError::into_inner),
            shortage,
        );
        match &shortage {
            Some(shortage) if before.is_none() => {
                tracing::error!(%shortage, "no space for anything new; running jobs wait in the queue");
            }
            None if before.is_some() => tracing::info!("there is space again"),
            _ => {}
        }
        Ok(shortage)
    }

    /// Measures what is left and what is used.
    pub async fn space(&self) -> Result<Space, StoreError> {
        Ok(Space {
            free: self.free_bytes().await?,
            used: self.used_bytes().await?,
        })
    }

    async fn free_bytes(&self) -> Result<u64, StoreError> {
        let (root, reserve) = (self.data_dir().root().to_owned(), self.data_dir().reserve());
        let keeps_reserve = self.inner().limits.min_free_bytes > 0;
        let free = blocking("cannot measure the disk", move || {
            let spent = keeps_reserve && !reserve.exists();
            Ok(free_bytes(&root)?.saturating_sub(if spent { RESERVE } else { 0 }))
        });
        free.await
    }

    async fn used_bytes(&self) -> Result<u64, StoreError> {
        let known: i64 = sqlx::query_scalar(
            "select (select coalesce(sum(bytes), 0) from files)
                  + (select coalesce(sum(bytes), 0) from upload_parts)
                  + (select coalesce(sum(bytes), 0) from checkpoints)
                  + (select coalesce(sum(bytes), 0) from artifacts)",
        )
        .fetch_one(&mut *self.reader().await?)
        .await?;
        Ok(known as u64 + self.data_dir().database_bytes())
    }

    pub(crate) fn require_space(&self) -> Result<(), StoreError> {
        match self.shortage() {
            Some(shortage) => Err(StoreError::NoSpace(shortage)),
            None => Ok(()),
        }
    }
}

/// Looks at the disk as long as anybody has the store.
pub(crate) async fn watch(store: Weak<Inner>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Some(inner) = store.upgrade() else { return };
        match Store::from_inner(inner).look_at_disk().await {
            Ok(_) => {}
            Err(StoreError::Closed) => return,
            Err(error) => tracing::warn!(%error, "the space left could not be told"),
        }
    }
}

/// Frees the reserve on a disk that is full already: opening the database writes.
pub(crate) fn make_room(data_dir: &DataDir) -> Result<(), StoreError> {
    let freed = free_bytes(data_dir.root()).and_then(|free| match free < RESERVE {
        true => filesystem::remove(&data_dir.reserve()),
        false => Ok(()),
    });
    freed.map_err(StoreError::io("cannot give the reserve up"))
}

/// Makes the file that keeps the reserve, or removes it.
fn reserve(path: &Path, wanted: bool) -> io::Result<()> {
    if !wanted {
        return filesystem::remove(path);
    }
    let file = match private_new(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        file => file?,
    };
    let kept = fallocate(&file, FallocateFlags::empty(), 0, RESERVE);
    kept.map_err(|error| {
        // Half a reserve must not be taken for a whole one.
        drop(filesystem::remove(path));
        error.into()
    })
}

/// Bytes of the disk under `path` that this process may still take.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let disk = statvfs(path)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Begins to watch.
pub(crate) fn start_watching(inner: &Arc<Inner>) {
    tokio::spawn(watch(Arc::downgrade(inner)));
}
